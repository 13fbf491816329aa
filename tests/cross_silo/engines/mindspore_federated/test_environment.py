"""Which Python runs the wheel's roles, and with which variables."""

import sys

import pytest

from cross_silo.engines.mindspore_federated import environment
from cross_silo.errors import UserError


def test_a_python_that_is_not_there_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setenv(environment.PYTHON, "/nowhere/python")
    with pytest.raises(UserError, match=r"MINDSPORE_FEDERATED_PYTHON is /nowhere/python.*setup_engine\.sh"):
        environment.find_python()


def test_a_python_without_the_wheel_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setenv(environment.PYTHON, sys.executable)
    with pytest.raises(UserError, match=r"cannot run it.*setup_engine\.sh"):
        environment.find_python()


@pytest.mark.parametrize("given, expected", [(None, "2"), ("0", "2"), ("1", "1"), ("3", "3")])
def test_the_log_level_at_which_the_wheel_crashes_is_never_given_on(monkeypatch, given, expected):
    monkeypatch.delenv("GLOG_v", raising=False)
    if given is not None:
        monkeypatch.setenv("GLOG_v", given)
    assert environment.added_environment()["GLOG_v"] == expected


def test_the_roles_find_this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/more")
    assert environment.added_environment()["PYTHONPATH"] == f"{environment.ROOT}:/more"
    assert (environment.ROOT / "cross_silo" / "engines").is_dir()
