"""A module in a process of its own: its output is logged, its error is the user's."""

import logging
import sys

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.child import run_child


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))

    def write(text):
        (tmp_path / "a_child.py").write_text(text)
        return "a_child"

    return write


def test_output_is_logged(module, caplog):
    caplog.set_level(logging.INFO)
    run_child(module("import sys; print('half'); print('done', *sys.argv[1:])"), ["--out", "x"], "making", "no")
    assert caplog.messages == ["making: half", "making: done --out x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; print('warning'); sys.exit('error: no file\\nmore')", "cannot: no file"),
        ("raise ValueError('odd')", "cannot: ValueError: odd"),
        ("import os; os._exit(3)", "cannot: no output"),
    ],
)
def test_a_failure_says_why(module, text, message):
    with pytest.raises(UserError) as error:
        run_child(module(text), [], "making", "cannot")
    assert str(error.value) == message
