"""A job of engine mindspore_federated: its roles started by the launching scripts, workers with numpy's trainer."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Sequence, Tuple

from cross_silo.launch import proc
from cross_silo.launch.free_ports import free_ports
from tests.support.federation import ROOT, SECONDS, Federation

PORTS = 6
"""The front's, and those after it."""


def neighbouring_ports(count: int) -> int:
    """The first of ``count`` free ports in a row, below those that outgoing connections get."""
    while True:
        first = random.randrange(15_000, 32_000)
        try:
            listeners = [socket.create_server(("127.0.0.1", first + i)) for i in range(count)]
        except OSError:
            continue
        for listener in listeners:
            listener.close()
        return first


class WheelFederation(Federation):
    """A federation whose servers are the wheel's."""

    def __init__(self, directory: Path, servers: int = 1, rounds: int = 3, **settings: Any) -> None:
        self.first_port = neighbouring_ports(PORTS + 2)
        self.redis_port = free_ports(1)[0]
        redis = f"127.0.0.1:{self.redis_port}"
        super().__init__(directory, redis, self.first_port, rounds, engine="mindspore_federated", **settings)
        self.servers = servers
        self.manage_address = f"127.0.0.1:{self.first_port + PORTS}"

    def script(self, name: str, *arguments: str) -> Tuple[int, str]:
        """Run a script of the project to its end; status and output."""
        done = subprocess.run(
            [sys.executable, f"scripts/{name}.py", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    def _launch(self, name: str, *arguments: str) -> str:
        status, output = self.script(name, "--yaml_config", str(self.yaml), "--run_dir", str(self.run_dir), *arguments)
        assert status == 0, output
        return output

    def start_scheduler(self) -> str:
        """Start the scheduler, as a user does."""
        return self._launch("run_sched", "--scheduler_manage_address", self.manage_address)

    def start_servers(self) -> str:
        """Start front and servers, or those of them that died, as a user does."""
        arguments = ["--http_server_address", self.address, "--checkpoint_dir", str(self.checkpoints)]
        return self._launch("run_server", *arguments, "--local_server_num", str(self.servers))

    def pid(self, role: str) -> int:
        """The pid of a role's process."""
        return json.loads((self.run_dir / role / "process.json").read_text())["pid"]

    def finish(self) -> str:
        """End the job's processes, as a user does."""
        return self.script("finish", "--redis_port", str(self.redis_port), "--run_dir", str(self.run_dir))[1]

    def seconds_to_end(self, pids: Sequence[int]) -> float:
        """SIGTERM to processes; seconds until all are gone."""
        identities = [(pid, proc.start_time(pid) or 0) for pid in pids]
        began = time.monotonic()
        proc.terminate(identities)
        assert proc.wait_gone(identities, SECONDS) == []
        return time.monotonic() - began

    def close(self) -> None:
        """End what still runs."""
        super().close()
        self.finish()
