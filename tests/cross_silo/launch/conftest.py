"""A job whose roles are dummies."""

import sys
from pathlib import Path

import pytest

from cross_silo.launch.ending import end_roles
from cross_silo.launch.role import Job, Role, running_roles

DUMMY = Path(__file__).resolve().parents[2] / "support" / "dummy_role.py"


@pytest.fixture
def job(tmp_path):
    """A job in an own run directory; what still runs of it afterwards is ended."""
    made = Job("job", "127.0.0.1:2345", tmp_path / "run")
    yield made
    end_roles([role for role in running_roles() if tmp_path in role.role_dir.parents], polite_seconds=0.1)


@pytest.fixture
def dummy(job):
    """From a name and the dummy's flags to a role of the job."""

    def make(name, *flags, address="127.0.0.1:1", where=job, **settings):
        command = [sys.executable, str(DUMMY), "--role_dir", str(where.run_dir / name), *flags]
        return Role(name, command, address, **settings)

    return make
