"""A federated round with each worker and each server of the two engines: seconds, memory, bytes.

The wheel's worker is its FederatedLearningManager without the training; it needs scripts/setup_interop.sh.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import queue
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from round import HOST, SAMPLES, model_shapes, take_part

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint
from cross_silo.config.federated import WHEEL_WORKER, load_federated
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.engines import ServerPlan, find_engine
from cross_silo.errors import UserError, run_main
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.proc import peak_memory
from cross_silo.launch.ready import read_ready
from cross_silo.protocol.client import AggregationClient

NATIVE, WHEEL = "native", "mindspore_federated"
OURS, THEIRS = "ours", "the wheel's"
PAIRS = ((THEIRS, WHEEL), (OURS, WHEEL), (THEIRS, NATIVE), (OURS, NATIVE))
WARM_UP = 2
"""Rounds left out: memory is touched for the first time."""
SECONDS = 1800.0
"""Bound of one pair."""
ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / ".venv-interop" / "bin" / "python"


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=int, default=41_088_002, help="float32 parameters of the model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="the median counts")
    parser.add_argument("--work_dir", help="where checkpoints are written for a while; default: TMPDIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.params < 10_000 or min(args.workers, args.rounds) < 1:
        raise UserError("--params, --workers, --rounds: expected at least 10000, 1 and 1")
    if not INTEROP.exists():
        raise UserError(f"{INTEROP} is not there; expected what bash scripts/setup_interop.sh makes")
    return args


class Servers:
    """An engine's servers with a model of ``params``, in a directory of their own."""

    def __init__(self, engine: str, directory: Path, args: argparse.Namespace, redis: str) -> None:
        name = f"benchmark_{secrets.token_hex(3)}"
        self._run_dir = directory / name
        self._run_dir.mkdir()
        weights = {key: np.zeros(shape, np.float32) for key, shape in model_shapes(args.params).items()}
        path = checkpoint_path(self._run_dir, name, 0, datetime.datetime.now())
        write_checkpoint(path, weights, CheckpointInfo(fl_name=name))
        windows = ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window")
        settings = {
            "fl_name": name,
            "engine": engine,
            "compat": WHEEL_WORKER if engine == NATIVE else "",
            "fl_iteration_num": args.rounds + WARM_UP + 1,
            "server_mode": "CLOUD_TRAINING",
            "enable_ssl": False,
            "lease": 3600.0,
            "distributed_cache": {"address": redis},
            "round": {
                "start_fl_job_threshold": args.workers,
                "update_model_ratio": 1.0,
                **dict.fromkeys(windows, 600_000),
            },
            "summary": {"metrics_file": "metrics.json", "failure_event_file": str(self._run_dir / "failures.txt")},
        }
        self.yaml = directory / f"{name}.yaml"
        self.yaml.write_text(yaml.safe_dump(settings))
        self.address = f"{HOST}:{free_ports(1)[0]}"
        config = load_federated(self.yaml)
        plan = ServerPlan(str(self.yaml), self.address, HOST, self._run_dir, self._run_dir)
        roles = find_engine(config, str(self.yaml)).server_roles(plan, config)
        self.wire = next(role.address for role in roles if role.name == "server_0")
        """Where the engine's own messages go."""
        self._processes: List[subprocess.Popen] = []
        try:
            for role in roles:
                self._start(role)
        except BaseException:
            self.stop()
            raise

    def _start(self, role: Any) -> None:
        path = self._run_dir / f"{role.name}.log"
        with open(path, "wb") as log:
            process = subprocess.Popen(
                list(role.command),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **role.environment},
            )
        self._processes.append(process)
        deadline = time.monotonic() + role.ready_seconds
        while read_ready(self._run_dir / role.name, process.pid) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{role.name} did not start: {path.read_text().strip()[-500:]}")
            time.sleep(0.05)

    def peak(self) -> float:
        """Return the peak memory of all its processes, MB."""
        return sum(peak_memory(process.pid) for process in self._processes)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def our_worker(index: int, params: int, rounds: int, address: str, path: str, results: Any) -> None:
    """Take part in ``rounds`` rounds; put seconds, memory and bytes."""
    rng = np.random.default_rng(index)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in model_shapes(params).items()}
    package = find_engine(load_federated(path), path)
    client_class = getattr(package, "client_class", AggregationClient)
    client = client_class(address, f"silo_{index}", secrets.token_hex(4), f"{HOST}:{os.getpid()}")
    client.acquire_lease(SAMPLES, client.job().fingerprint)
    seconds = take_part(client, weights, rounds, adopt=True)
    told = {"seconds": seconds, "peak": peak_memory(os.getpid()), "up": client.bytes_up, "down": client.bytes_down}
    results.put(told)


def run_ours(args: argparse.Namespace, servers: Servers) -> List[Dict[str, Any]]:
    """Run our workers to their end; what they tell."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    asked = (args.params, args.rounds + WARM_UP, servers.address, str(servers.yaml), results)
    workers = [context.Process(target=our_worker, args=(index, *asked), daemon=True) for index in range(args.workers)]
    for worker in workers:
        worker.start()
    try:
        told: List[Dict[str, Any]] = []
        deadline = time.monotonic() + SECONDS
        while len(told) < len(workers):
            try:
                told.append(results.get(timeout=0.5))
            except queue.Empty:
                if any(worker.exitcode for worker in workers) or time.monotonic() > deadline:
                    raise UserError("a worker failed, or took too long") from None
        return told
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def run_theirs(args: argparse.Namespace, servers: Servers) -> List[Dict[str, Any]]:
    """Run the wheel's workers to their end; what they tell."""
    sizes = json.dumps({name: shape[0] for name, shape in model_shapes(args.params).items()})
    command = [INTEROP, Path(__file__).with_name("wheel_worker.py"), servers.yaml, servers.wire]
    command += [str(SAMPLES), str(args.rounds + WARM_UP), sizes]
    workers = []
    try:
        for _ in range(args.workers):
            workers.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "GLOG_v": "3"})
            )
            time.sleep(0.01)  # its name is the time of its start
        told = []
        for worker in workers:
            output, _ = worker.communicate(timeout=SECONDS)
            if worker.returncode:
                raise UserError(f"the wheel's worker ended with status {worker.returncode}")
            told.append(json.loads(output.strip().splitlines()[-1]))
        return told
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def measure_pair(worker: str, engine: str, directory: Path, args: argparse.Namespace, redis: str) -> Dict[str, Any]:
    """Return seconds a round (of the slowest worker, the median), peak memory in MB, bytes a round of all workers."""
    servers = Servers(engine, directory, args, redis)
    try:
        told = (run_ours if worker == OURS else run_theirs)(args, servers)
        server_peak = servers.peak()
    finally:
        servers.stop()
    slowest = [max(rounds) for rounds in zip(*(one["seconds"] for one in told))][WARM_UP:]
    rounds = args.rounds + WARM_UP
    return {
        "worker": worker,
        "server": OURS if engine == NATIVE else THEIRS,
        "seconds": statistics.median(slowest),
        "worker_peak_mb": max(one["peak"] for one in told),
        "server_peak_mb": server_peak,
        "bytes_up": sum(one["up"] for one in told) / rounds,
        "bytes_down": sum(one["down"] for one in told) / rounds,
    }


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure every pair, one after the other."""
    with tempfile.TemporaryDirectory(dir=args.work_dir) as directory:
        redis = EmbeddedRedis(HOST, free_ports(1)[0])
        redis.ensure("benchmark")
        try:
            pairs = [measure_pair(*pair, Path(directory), args, f"{HOST}:{redis.port}") for pair in PAIRS]
        finally:
            redis.leave()
    return {"params": args.params, "workers": args.workers, "rounds": args.rounds, "pairs": pairs}


def show(result: Dict[str, Any]) -> None:
    """Print the table."""
    title = f"One round: {result['params'] / 1e6:.1f}M float32, {result['workers']} workers, 1 server, loopback"
    table = Table(title=title, caption=f"median of {result['rounds']} rounds; peak memory of a process")
    headings = ("worker", "server", "seconds a round", "worker MB", "server MB", "MB up", "MB down")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for pair in result["pairs"]:
        table.add_row(
            pair["worker"],
            pair["server"],
            f"{pair['seconds']:.2f}",
            f"{pair['worker_peak_mb']:.0f}",
            f"{pair['server_peak_mb']:.0f}",
            f"{pair['bytes_up'] / 1e6:.1f}",
            f"{pair['bytes_down'] / 1e6:.1f}",
        )
    Console().print(table)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers, workers and Redis end with it
    result = measure(args)
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    run_main(main)
