"""A staged directory: whole or not at all, whatever interrupts it, and one writer at a time."""

import os
import signal
import subprocess
import sys

import pytest

from cross_silo.data.staging import staged_directory
from cross_silo.errors import UserError


def write(directory, content="new", overwrite=False):
    with staged_directory(str(directory), overwrite) as partial, open(os.path.join(partial, "file"), "w") as file:
        file.write(content)


def names(path):
    return sorted(os.listdir(path))


def test_appears_whole(tmp_path):
    target = tmp_path / "deep" / "out"
    write(target)
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == ["out"]


def test_is_absent_until_the_end(tmp_path):
    with staged_directory(str(tmp_path / "out"), False) as partial:
        assert not (tmp_path / "out").exists()
        assert os.path.dirname(partial) == str(tmp_path)
    assert (tmp_path / "out").is_dir()


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), staged_directory(str(tmp_path / "out"), False):
        raise RuntimeError("stop")
    assert names(tmp_path) == []


def test_what_stands_there_is_kept_without_overwrite(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(UserError, match="--overwrite"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "old"
    write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_an_empty_directory_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert (tmp_path / "out" / "file").exists()


def test_an_error_keeps_the_old_one(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), staged_directory(str(tmp_path / "out"), True):
        raise RuntimeError
    assert (tmp_path / "out" / "file").read_text() == "old"


WRITER = """
import os, signal, sys
from cross_silo.data import staging
if sys.argv[2] == "renamed":
    staging.sync_path = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    rename, calls = os.rename, []
    def once(source, target):
        if calls: os.kill(os.getpid(), signal.SIGKILL)
        calls.append(1); rename(source, target)
    os.rename = once
with staging.staged_directory(sys.argv[1], True) as partial:
    open(os.path.join(partial, "half"), "w").write("half")
    if sys.argv[2] == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "waiting": print("ready", flush=True); sys.stdin.read()
"""


def start(path, when):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), when],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("when", ["killed", "renamed"])
def test_a_killed_writer_costs_nothing(tmp_path, when):
    write(tmp_path / "out", "old")
    writer = start(tmp_path / "out", when)
    writer.communicate(timeout=30)
    assert writer.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="--overwrite"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "file").read_text() == "old"
    write(tmp_path / "out", overwrite=True)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["file"]


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path):
    writer = start(tmp_path / "out", "waiting")
    assert writer.stdout.readline() == b"ready\n"
    with pytest.raises(UserError, match="another process is writing"):
        write(tmp_path / "out")
    writer.communicate(b"", timeout=30)
    assert writer.returncode == 0
    assert (tmp_path / "out" / "half").read_text() == "half"
