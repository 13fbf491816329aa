"""The images: from this repository alone, pinned, not as root; and their install steps, run without an image."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("aggregator", "trainer")


def steps(role):
    """The instructions of a recipe."""
    text = (ROOT / "containers" / f"{role}.Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def copied(role):
    """What a recipe takes from the repository."""
    return [name for word, rest in steps(role) if word == "COPY" for name in rest.split()[:-1]]


def requirements():
    """What setup.py asks for at run time in an image."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **options: found.update(options))
        patch.chdir(ROOT)
        runpy.run_path("setup.py")
    return [Requirement(text) for text in [*found["install_requires"], *found["extras_require"]["sedna"]]]


def pins():
    lines = (ROOT / "containers" / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("role", ROLES)
def test_recipe(role):
    found = dict(steps(role))
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-\w+", found["FROM"])
    user = re.fullmatch(r"(\d+):(\d+)", found["USER"])
    assert user and int(user[1]) > 0 and int(user[2]) > 0
    assert f'"-m", "cross_silo.sedna", "{role}"' in found["ENTRYPOINT"]
    assert any("containers/install.sh" in rest for word, rest in steps(role) if word == "RUN")
    assert not any(word == "ADD" or "git clone" in rest or "apt-get" in rest for word, rest in steps(role))


@pytest.mark.parametrize("role", ROLES)
def test_what_is_copied_is_there_and_not_ignored(role):
    kept = [line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")]
    for name in copied(role):
        assert (ROOT / name).exists(), name
        assert name in kept, name


def test_every_requirement_is_pinned():
    for requirement in requirements():
        if requirement.marker is None or requirement.marker.evaluate():
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            assert requirement.specifier.contains(pins()[name]), f"{requirement} is pinned to {pins()[name]}"


def test_wrong_directory(tmp_path):
    script = ROOT / "containers" / "install.sh"
    done = subprocess.run(["bash", script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: expected the directory of the project, with setup.py\n")


@pytest.mark.long
def test_install_steps_in_a_fresh_environment(tmp_path):
    """What the images run, on what they copy alone, without this environment's packages."""
    for name in copied("trainer"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = ["bash", str(tmp_path / "containers" / "install.sh"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"mindspore {pins()['mindspore']}" in done.stdout
