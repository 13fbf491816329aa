"""What a server waits for once its job has ended: that workers have heard of it, and the last evaluation."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases

log = logging.getLogger(__name__)

WORKERS_SECONDS = 30.0
LINGER_SECONDS = 2.0
"""For clients without a lease, which fetch the last model."""
POLL_SECONDS = 0.2
MEASURING = "measuring"
"""Phase that a worker's heartbeats tell."""


def await_workers(
    leases: Leases,
    leave: threading.Event,
    seconds: float = WORKERS_SECONDS,
    linger: float = LINGER_SECONDS,
    measuring: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return once no silo is leased, after ``linger`` seconds at least and ``seconds`` at most.

    Args:
        measuring: seconds, instead, while a silo measures the last model on its own validation set.
    """

    def patience() -> float:
        live = leases.live().values()
        if any(lease.info.get("phase") == MEASURING for lease in live):
            return max(seconds, measuring)
        return seconds if live else linger

    began = clock()
    while clock() - began < patience():
        if leave.wait(POLL_SECONDS):
            return
    if leases.live():
        log.warning("silos %s have not left within %.0f s", ", ".join(sorted(leases.live())), clock() - began)


def await_evaluation(
    store: GuardedStore, round: int, seconds: float, leave: threading.Event, clock: Callable[[], float] = time.monotonic
) -> None:
    """Return once ``round`` has been evaluated, no evaluator is alive, or ``seconds`` are over."""
    began = clock()
    told = False
    while not store.call(lambda s: round in s.evaluations(), False):
        if not store.call(lambda s: s.members("evaluator"), {}):
            log.info("no evaluator is alive: round %d is not evaluated", round)
            return
        if clock() - began > seconds:
            log.warning("round %d was not evaluated within %g s (evaluation.deadline)", round, seconds)
            return
        if not told:
            told = True
            log.info("waiting for the evaluation of round %d", round)
        if leave.wait(POLL_SECONDS):
            return
