"""A role of a job (scheduler, server_0, worker_1 ...): its command, its place in the run directory, its processes.

A role's processes carry their role directory, job and Redis address in the environment, which children inherit. So
they are found wherever their run directory is, also where the record in it or Redis is gone.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from cross_silo.config.federated import split_address
from cross_silo.launch import proc
from cross_silo.launch.record import read_json, write_json

PROCESS_FILE = "process.json"
ROLE_DIR, JOB, REDIS = "CROSS_SILO_ROLE_DIR", "CROSS_SILO_JOB", "CROSS_SILO_REDIS"
"""Environment variables that mark a role's processes."""


@dataclass(frozen=True)
class Role:
    """What is to be started."""

    name: str
    """Name of its directory in the run directory."""
    command: Sequence[str]
    """Program and arguments."""
    address: str
    """host:port that it serves, or works for."""
    listen_flag: str = ""
    """The flag that gave ``address``, where the role listens there."""
    ready_seconds: float = 60.0
    """Time from its start until it must serve."""
    log: str = ""
    """Its log, relative to the run directory; empty: ``server_0/server.log`` for server_0."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables it gets besides those of the launcher."""

    @property
    def log_path(self) -> str:
        """Its log, relative to the run directory."""
        return self.log or f"{self.name}/{re.sub('_[0-9]+$', '', self.name)}.log"


@dataclass(frozen=True)
class Job:
    """The job that roles belong to, and where on this machine they write."""

    fl_name: str
    redis: str
    """distributed_cache.address"""
    run_dir: Path
    auth_dir: str = ""
    """Where its roles find certificates, keys and tokens."""


@dataclass(frozen=True)
class Running:
    """A role with live processes on this machine."""

    role_dir: Path
    fl_name: str
    redis: str
    main: Optional[proc.Identity]
    """The process that was started; None where only children of it are left."""
    children: Tuple[proc.Identity, ...]

    @property
    def name(self) -> str:
        """The role's name."""
        return self.role_dir.name

    @property
    def processes(self) -> Tuple[proc.Identity, ...]:
        """All its live processes, the main one first."""
        return ((self.main,) if self.main else ()) + self.children

    @property
    def leaders(self) -> Tuple[proc.Identity, ...]:
        """Those to be told to end: the main process, which ends its children; without one, all."""
        return (self.main,) if self.main else self.children

    @property
    def pid(self) -> int:
        """The pid to name it by."""
        return self.processes[0][0]


def marks(job: Job, role: Role) -> Dict[str, str]:
    """Return the environment variables that mark ``role``'s processes."""
    return {ROLE_DIR: str(job.run_dir / role.name), JOB: job.fl_name, REDIS: normal_address(job.redis)}


def normal_address(address: str) -> str:
    """Return host:port with one spelling for localhost."""
    host, port = split_address(address, "address")
    return f"{'127.0.0.1' if host == 'localhost' else host}:{port}"


def write_process(job: Job, role: Role, pid: int) -> None:
    """Leave ``process.json`` in the role's directory."""
    write_json(
        job.run_dir / role.name / PROCESS_FILE,
        {
            "pid": pid,
            "start_time": proc.start_time(pid),
            "host": socket.gethostname(),
            "fl_name": job.fl_name,
            "redis": normal_address(job.redis),
            "role": role.name,
            "address": role.address,
            "command": list(role.command),
            "log": role.log_path,
        },
    )


def running_roles() -> List[Running]:
    """Return the roles of this user that run on this machine, in the order of their directories."""
    found: Dict[Tuple[str, str, str], List[proc.Identity]] = {}
    for pid in proc.pids():
        marked = proc.environment(pid)
        started = proc.start_time(pid)
        if ROLE_DIR in marked and started is not None:
            key = (marked[ROLE_DIR], marked.get(JOB, ""), marked.get(REDIS, ""))
            found.setdefault(key, []).append((pid, started))
    roles = []
    for (role_dir, fl_name, redis), processes in sorted(found.items()):
        record = read_json(Path(role_dir) / PROCESS_FILE) or {}
        main = (record.get("pid", 0), record.get("start_time", 0))
        children = tuple(identity for identity in processes if identity != main)
        roles.append(Running(Path(role_dir), fl_name, redis, main if main in processes else None, children))
    return roles
