"""Which process is meant: a pid alone is reused by the kernel, a pid with its start time is not (proc(5), stat)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import Dict, Iterable, List, Optional, Tuple

Identity = Tuple[int, int]
"""A process for good: pid and start time."""


def start_time(pid: int) -> Optional[int]:
    """Return the start time of a live process in clock ticks since boot; None if there is none, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()  # the name before ")" may hold anything
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])  # field 22 of the line, of which two stand before ")"


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process that had ``pid`` and that start time still runs."""
    return start_time(pid) == started


def environment(pid: int) -> Dict[str, str]:
    """Return the environment that a process of this user was started with; empty for any other process."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            entries = environ.read().split(b"\0")
    except OSError:
        return {}
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in (entry.partition(b"=") for entry in entries)}


def pids() -> List[int]:
    """Return the pids of this machine's processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def peak_memory(pid: int) -> float:
    """Return the most MB (2**20 bytes) that a process had in memory so far; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            found = re.search(rb"VmHWM:\s+(\d+)", status.read())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0  # a zombie has none


def terminate(processes: Iterable[Identity]) -> None:
    """Ask processes to end (SIGTERM)."""
    _signal_all(processes, signal.SIGTERM)


def wait_gone(processes: Iterable[Identity], seconds: float) -> List[Identity]:
    """Wait up to ``seconds`` for processes to end; return those that still run."""
    deadline = time.monotonic() + seconds
    left = [identity for identity in processes if is_alive(*identity)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [identity for identity in left if is_alive(*identity)]
    return left


def end_processes(processes: Iterable[Identity], polite_seconds: float = 10.0) -> List[Identity]:
    """End processes: SIGTERM to all, SIGKILL to those that still run after ``polite_seconds``.

    Returns:
        Those that had to be killed.
    """
    asked = _signal_all(processes, signal.SIGTERM)
    killed = _signal_all(wait_gone(asked, polite_seconds), signal.SIGKILL)
    wait_gone(killed, 5.0)
    return killed


def _signal_all(processes: Iterable[Identity], number: int) -> List[Identity]:
    reached = []
    for pid, started in processes:
        if is_alive(pid, started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached.append((pid, started))
    return reached
