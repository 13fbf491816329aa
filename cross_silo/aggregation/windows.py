"""The time windows of a round: what each waits for, how long, and which key says so."""

from __future__ import annotations

from typing import List, NamedTuple

from cross_silo.config.federated import Round

START, UPDATE, WHOLE = "start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window"
"""Keys of the windows in the federated YAML's section ``round``."""
WAITS_FOR = {START: "startFLJob", UPDATE: "updateModel", WHOLE: "global iteration"}


class Window(NamedTuple):
    """A window that runs."""

    key: str
    seconds: float
    since: float
    """Of the rounds' clock."""

    def left(self, now: float) -> float:
        """Return the seconds left at ``now``; 0 or less: it has ended."""
        return self.seconds - (now - self.since)

    def __str__(self) -> str:
        return f"{WAITS_FOR[self.key]} window of {self.seconds:g} s (round.{self.key})"


def running_windows(settings: Round, joining: bool, began: float, first_push: float) -> List[Window]:
    """Return the windows of a round in progress, the one that is looked at first before the others.

    Args:
        joining: silos are still waited for at the round's start.
        began: when the first silo joined.
        first_push: when the first update came; 0: none has.
    """
    since = {START: began if joining else 0.0, UPDATE: first_push, WHOLE: began}
    return [Window(key, getattr(settings, key) / 1000, since[key]) for key in WAITS_FOR if since[key]]
