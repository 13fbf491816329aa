"""The lock between processes."""

import subprocess
import sys

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock

HOLDER = """
import sys, time
from pathlib import Path
from cross_silo.launch.lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_keeps_another_process_out_until_its_holder_is_killed(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="lock has been locked by another process for 0.1 s"), file_lock(path, 0.1):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with file_lock(path, 1):
        pass


def test_it_is_given_back_when_the_work_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with file_lock(tmp_path / "lock", 0.1):
        pass
