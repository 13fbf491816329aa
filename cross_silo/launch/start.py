"""Starts a job's roles as background processes, waits until each serves, and says where they are."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence

from cross_silo.config.federated import AUTH_DIR, split_address
from cross_silo.errors import UserError
from cross_silo.launch.ending import end_roles
from cross_silo.launch.lock import file_lock
from cross_silo.launch.ready import FILE as READY_FILE
from cross_silo.launch.ready import read_ready
from cross_silo.launch.record import read_json
from cross_silo.launch.role import PROCESS_FILE, Job, Role, marks, normal_address, running_roles, write_process
from cross_silo.launch.table import table
from cross_silo.launch.user_dir import user_dir

POLL_SECONDS = 0.05
LOG_LINES = 20
"""Lines of its log that are shown of a role that does not start."""


@dataclass
class Started:
    """A role whose process this launcher started."""

    role: Role
    process: "subprocess.Popen[bytes]"
    log: Path
    log_offset: int
    """Where this process's part of the log begins."""
    ready: bool = False


def start_roles(job: Job, roles: Sequence[Role], foreground: bool = False, one_by_one: bool = False) -> int:
    """Start ``roles``, wait until each serves, and print a table of them.

    Those that run already as they would be started stay as they are, so that the command that started several starts
    again the one that died. Where one does not start, those that this call started are ended again.

    Args:
        foreground: stay until they end, and end them on SIGTERM or SIGINT; a single role takes this process's place.
        one_by_one: each is started when the one before it serves.

    Returns:
        0, or in the foreground the first exit status that is not 0.

    Raises:
        UserError: all run already, or one runs in another way; its address is taken, it ended at its start or does
            not serve in time.
    """
    locked = user_dir("launch") / hashlib.sha256(os.fsencode(job.run_dir)).hexdigest()[:16]
    started: List[Started] = []
    earlier = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with file_lock(locked):
            kept = still_running(job, roles)
        roles = [role for role in roles if role.name not in kept] if len(kept) < len(roles) else roles
        for batch in [[role] for role in roles] if one_by_one else [roles]:
            with file_lock(locked):
                check_startable(job, roles[len(started) :])
                for role in batch:
                    prepare_directory(job, role)
                    if foreground and len(roles) == 1:
                        become(job, role)
                    started.append(_spawn(job, role))
            _wait_ready(job, started)
        print(_table(started), flush=True)
        for name, pid in kept.items():
            print(f"{name} (pid {pid}) runs already and stays", flush=True)
        return _stay(started) if foreground else 0
    except BaseException:
        directories = {job.run_dir / item.role.name for item in started}
        end_roles([role for role in running_roles() if role.role_dir in directories])
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


def still_running(job: Job, roles: Sequence[Role]) -> Dict[str, int]:
    """Return the pids of those of ``roles`` that live, started by the same command for the same job, by name."""
    live = {running.role_dir: running for running in running_roles() if running.main is not None}
    kept = {}
    for role in roles:
        running = live.get(job.run_dir / role.name)
        if running is None or (running.fl_name, running.redis) != (job.fl_name, normal_address(job.redis)):
            continue
        record = read_json(running.role_dir / PROCESS_FILE) or {}
        if record.get("command") == list(role.command):
            kept[role.name] = running.pid
    return kept


def check_startable(job: Job, roles: Sequence[Role]) -> None:
    """Refuse roles that run already, or whose address is taken. Raises UserError."""
    live = {running.role_dir: running for running in running_roles()}
    for role in roles:
        running = live.get(job.run_dir / role.name)
        if running is not None:
            raise UserError(
                f"{role.name} of job {running.fl_name!r} runs already in {job.run_dir} (pid {running.pid}); "
                "end it (scripts/finish.py) or take another --run_dir"
            )
    for role in roles:
        if role.listen_flag:
            check_free(role.address, role.listen_flag)


def check_free(address: str, what: str) -> None:
    """Refuse an address that cannot be listened on. Raises UserError naming ``what``."""
    host, port = split_address(address, what)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"{what} is {address}: {error.strerror}; expected a free address") from None


def prepare_directory(job: Job, role: Role) -> None:
    """Make the directories of ``role`` and of its log; what an earlier process said of itself is gone."""
    try:
        (job.run_dir / role.name).mkdir(parents=True, exist_ok=True)
        (job.run_dir / role.log_path).parent.mkdir(parents=True, exist_ok=True)
        (job.run_dir / role.name / READY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--run_dir {job.run_dir}: {error.strerror} ({error.filename})") from None


def become(job: Job, role: Role) -> None:
    """Put ``role`` in this process's place; its output stays where this process's goes."""
    write_process(job, role, os.getpid())
    sys.stdout.flush()
    os.execve(role.command[0], list(role.command), _environment(job, role))


def _environment(job: Job, role: Role) -> "dict[str, str]":
    found = {AUTH_DIR: job.auth_dir} if job.auth_dir else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", **found, **role.environment, **marks(job, role)}


def _spawn(job: Job, role: Role) -> Started:
    log = job.run_dir / role.log_path
    with open(log, "ab") as output:
        offset = output.tell()
        process = subprocess.Popen(
            list(role.command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(job, role),
            start_new_session=True,
        )
    write_process(job, role, process.pid)
    return Started(role, process, log, offset)


def _wait_ready(job: Job, started: Sequence[Started]) -> None:
    began = time.monotonic()
    waiting = [item for item in started if not item.ready]
    while waiting:
        for item in waiting:
            status = item.process.poll()
            if read_ready(job.run_dir / item.role.name, item.process.pid) is not None or status == 0:
                item.ready = True
            elif status is not None:
                raise UserError(_died(item, f"ended with status {status}"))
            elif time.monotonic() - began > item.role.ready_seconds:
                raise UserError(_died(item, f"does not serve after {item.role.ready_seconds:g} s"))
        waiting = [item for item in waiting if not item.ready]
        if waiting:
            time.sleep(POLL_SECONDS)


def _died(item: Started, what: str) -> str:
    """Return the message for a role that did not start: its own error line, or the end of its log."""
    with open(item.log, "rb") as log:
        log.seek(item.log_offset)
        lines = log.read().decode("utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    head = f"{item.role.name} (pid {item.process.pid}) {what}"
    if errors:
        return f"{head}: {errors[-1][len('error: ') :]} ({item.log})"
    tail = "".join(f"\n  {line}" for line in lines[-LOG_LINES:])
    return f"{head}; end of {item.log}:{tail or ' it wrote nothing'}"


def _table(started: Sequence[Started]) -> str:
    rows = []
    for item in started:
        ended = item.process.poll() is not None
        rows.append((item.role.name, "ended well" if ended else item.process.pid, item.role.address, item.log))
    return table(("role", "pid", "address", "log"), rows)


def _stay(started: Sequence[Started]) -> int:
    """Wait for the roles to end. Returns the first status that is not 0."""
    statuses = [item.process.wait() for item in started]
    return next((128 - status if status < 0 else status for status in statuses if status), 0)
