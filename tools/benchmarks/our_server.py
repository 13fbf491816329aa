"""A job's server processes for benchmarks: a model of a detector's proportions, and nothing on disk that stays."""

from __future__ import annotations

import datetime
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint
from cross_silo.config.auth import SERVER
from cross_silo.errors import UserError
from cross_silo.launch.free_ports import adjoining_ports
from cross_silo.launch.ready import read_ready

HOST = "127.0.0.1"


def model_shapes(params: int) -> Dict[str, Tuple[int, ...]]:
    """Return tensors of a detector's proportions: one large, some of a middling size, many small; ``params`` in all."""
    sizes = [params // 3] + [params // 100] * 60 + [max(params // 200_000, 1)] * 200
    sizes.append(params - sum(sizes))
    return {f"layer_{i}.weight": (size,) for i, size in enumerate(sizes)}


def resident_memory(pid: int) -> float:
    """Return the MB that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# the floor


def make_certificates(directory: Path, silos: Sequence[str]) -> None:
    """Make certificates of the server and the silos in ``directory``."""
    from cross_silo.security.authority import Authority

    authority = Authority(directory)
    for name in (SERVER, *silos):
        authority.issue(name, (HOST,))


class OurServer:
    """The aggregator process with a model of ``params``, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        params: int,
        workers: int,
        rounds: int,
        redis: str,
        auth: str = "none",
        more: str = "",
        servers: int = 1,
    ) -> None:
        """Start it, and the job's other servers; ``more`` are further lines of its YAML."""
        shapes = model_shapes(params)
        name = f"benchmark_{secrets.token_hex(3)}"
        checkpoints = directory / name
        checkpoints.mkdir()
        weights = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
        path = checkpoint_path(checkpoints, name, 0, datetime.datetime.now())
        write_checkpoint(path, weights, CheckpointInfo(fl_name=name))
        silos = [f"silo_{index}" for index in range(workers)]
        self.yaml = directory / f"{name}.yaml"
        self.yaml.write_text(
            f"fl_name: {name}\nfl_iteration_num: {rounds}\nlease: 3600\ndistributed_cache: {{address: '{redis}'}}\n"
            f"round: {{start_fl_job_threshold: {workers}}}\nsilos: [{', '.join(silos)}]\n"
            f"auth: {{mode: {auth}, dir: '{checkpoints / 'auth'}'}}\n{more}"
        )
        if auth == "mtls":
            make_certificates(checkpoints / "auth", silos)
        port = adjoining_ports(servers)
        self.address = f"{HOST}:{port}"
        shared = ["--yaml_config", str(self.yaml), "--run_dir", str(checkpoints)]
        command = [sys.executable, "-m", "cross_silo.aggregation.server", *shared, "--servers", str(servers)]
        command += ["--http_server_address", self.address, "--tcp_server_ip", HOST]
        command += ["--checkpoint_dir", str(checkpoints)]
        self.log = checkpoints / "server.log"
        self.others: List["subprocess.Popen[bytes]"] = []
        with open(self.log, "wb") as log:
            for index in range(1, servers):
                other = [sys.executable, "-m", "cross_silo.aggregation.shard_server", *shared, "--index", str(index)]
                other += ["--http_server_address", f"{HOST}:{port + index}", "--first_server_address", self.address]
                self.others.append(subprocess.Popen(other, stdout=log, stderr=subprocess.STDOUT))
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while read_ready(checkpoints / "server_0", self.process.pid) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the server did not start: {self.log.read_text().strip()[-500:]}")
            time.sleep(0.05)
        self.resident = resident_memory(self.process.pid)

    def stop(self) -> None:
        """End the processes."""
        for process in (self.process, *self.others):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu_seconds(self) -> float:
        """Return the processor time of all servers."""
        return sum(cpu_seconds(process.pid) for process in (self.process, *self.others))
