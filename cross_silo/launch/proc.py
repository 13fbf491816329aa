"""Which process is meant: a pid alone is reused by the kernel, a pid with its start time is not (proc(5), stat)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Dict, Iterable, List, Optional, Tuple

ROLE_VARIABLE = "CROSS_SILO_ROLE_DIR"
"""Environment variable with a role's directory; its children inherit it, and are found by it."""
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


def role_of(pid: int) -> Optional[str]:
    """Return the role directory that a process of this user was started for; None for any other process."""
    prefix = f"{ROLE_VARIABLE}=".encode()
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            entries = environ.read().split(b"\0")
    except OSError:
        return None
    return next((os.fsdecode(entry[len(prefix) :]) for entry in entries if entry.startswith(prefix)), None)


def role_processes() -> Dict[str, List[int]]:
    """Return the live processes of this user by the role directory that they, or a parent, were started for."""
    found: Dict[str, List[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        directory = role_of(int(entry))
        if directory is not None and start_time(int(entry)) is not None:
            found.setdefault(directory, []).append(int(entry))
    return found


def end_processes(processes: Iterable[Identity], polite_seconds: float = 10.0) -> List[Identity]:
    """End processes: SIGTERM to all, SIGKILL to those that still run after ``polite_seconds``.

    Returns:
        Those that had to be killed.
    """
    left = _signal_all(processes, signal.SIGTERM)
    left = _wait_gone(left, polite_seconds)
    killed = _signal_all(left, signal.SIGKILL)
    _wait_gone(killed, 5.0)
    return killed


def _signal_all(processes: Iterable[Identity], number: int) -> List[Identity]:
    reached = []
    for pid, started in processes:
        if is_alive(pid, started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached.append((pid, started))
    return reached


def _wait_gone(processes: List[Identity], seconds: float) -> List[Identity]:
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [identity for identity in left if is_alive(*identity)]
    return left
