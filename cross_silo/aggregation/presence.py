"""What every process that leads a job tells of itself and of the job: in Redis, at ``/state`` and in its log."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, Dict, Protocol

import redis

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases
from cross_silo.launch.proc import start_time
from cross_silo.report.status import Status, read_status


class Standing(Protocol):
    """How far a job is: :class:`~cross_silo.aggregation.rounds.Rounds`, or MistNet's epochs."""

    state: str
    reason: str
    iteration: int
    attempt: int
    phase: str
    good_rounds: int


def standing_of(rounds: Standing) -> Dict[str, Any]:
    """Return the fields by which others know how far a job is."""
    names = ("state", "reason", "iteration", "attempt", "phase", "good_rounds")
    return {name: getattr(rounds, name) for name in names}


def own_member(address: str, run_dir: Path) -> Dict[str, Any]:
    """Return what other processes see of this one."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start_time": start_time(os.getpid()),
        "address": address,
        "run_dir": str(run_dir),
    }


def live_silos(leases: Leases, clock: float) -> Dict[str, Dict[str, Any]]:
    """Return what each live silo told, with the time (Unix) of its last heartbeat; ``clock`` is the leases' now."""
    now = time.time()
    return {
        silo: {**lease.info, "worker": lease.worker, "seen": now - max(leases.seconds - (lease.ends - clock), 0.0)}
        for silo, lease in leases.live().items()
    }


def status_of(store: GuardedStore, fl_name: str) -> Status:
    """Return the job's status. Raises redis.ConnectionError where Redis does not answer."""
    status = store.call(lambda s: read_status(s, fl_name), None)
    if status is None:
        raise redis.ConnectionError("Redis does not answer")
    return status


def log_end(log: logging.Logger, fl_name: str, rounds: Standing, failed: str) -> None:
    """Say how the job ended; as an error where its state is ``failed``."""
    ended = log.error if rounds.state == failed else log.info
    ended("job %s is %s%s", fl_name, rounds.state, f": {rounds.reason}" if rounds.reason else "")
