"""How far a pass is: a bar on a terminal, lines in a log, the rate without what an earlier process did."""

import io
import logging

import pytest
from rich.console import Console

from cross_silo.mistnet.pass_progress import PassProgress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_lines_in_a_log(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    with PassProgress("features", 50, console=Console(file=io.StringIO()), clock=clock) as progress:
        progress.begin(10)
        for _ in range(4):
            clock.now += 5
            progress.advance(10)
        assert progress.done == 50
    assert caplog.messages == [
        "features: 30 of 50 images, 2.0 images/s",
        "features: 50 of 50 images, 2.0 images/s",
        "features: 50 of 50 images, 2.0 images/s",
    ]


def test_a_bar_on_a_terminal(caplog):
    caplog.set_level(logging.INFO)
    output = io.StringIO()
    clock = Clock()
    with PassProgress("features", 40, console=Console(file=output, force_terminal=True, width=100), clock=clock) as bar:
        clock.now += 20
        bar.advance(40)
    shown = output.getvalue()
    assert "features" in shown and "40/40" in shown and "2.0 images/s" in shown
    assert caplog.messages == ["features: 40 of 40 images, 2.0 images/s"]


def test_a_pass_that_breaks_off_has_no_last_line(caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt), PassProgress("features", 4, console=Console(file=io.StringIO())):
        raise KeyboardInterrupt
    assert caplog.messages == []
