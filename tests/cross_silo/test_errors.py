"""How a command reports what it was told wrong."""

from __future__ import annotations

import pytest

from cross_silo.errors import UserError, run_main


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    "main, status, said",
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (raising(UserError("--x is 1, expected 2")), 2, "error: --x is 1, expected 2\n"),
        (raising(KeyboardInterrupt()), 130, "interrupted\n"),
    ],
)
def test_status_and_message(main, status, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == status
    assert capsys.readouterr().err == said


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 // 0)
