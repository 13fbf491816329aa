"""Seconds a round, the server's processor time and memory by number of workers, and by rule of aggregation.

The server is a process of its own as in a job; the workers are threads of this one, which train nothing.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from our_server import HOST, OurServer, model_shapes
from rich.console import Console
from rich.table import Table
from round import SAMPLES, take_part

from cross_silo.config.aggregation import CLIPPED_MEAN, MEDIAN, RULES, TRIMMED_MEAN
from cross_silo.config.federated import Round
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.errors import UserError, run_main
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.proc import peak_memory
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.split import MAX_SERVERS

WARM_UP = 2
"""Rounds left out: memory is touched for the first time."""
SECONDS = 600.0
"""Bound of one number of workers."""
SLACK_MB = 32
"""Of the server's memory: threads and what the allocator keeps, whatever the size of the model."""
NOISE = 0.01
"""Step of the workers' weights from a model of zeros."""


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=int, default=7_235_389, help="float32 parameters of the model (YOLOv5s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--servers", type=int, default=1, help="of the job, --local_server_num")
    parser.add_argument("--rule", choices=RULES, default=RULES[0], help="aggregation.rule")
    parser.add_argument("--work_dir", help="where checkpoints are written for a while; default: TMPDIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if not 1 <= args.servers <= MAX_SERVERS:
        raise UserError(f"--servers is {args.servers}, expected 1 to {MAX_SERVERS}")
    least = 3 if args.rule in (MEDIAN, TRIMMED_MEAN) else 1
    if args.params < 10_000 or min(args.workers) < least or args.rounds < 1:
        raise UserError(
            f"--params, --workers, --rounds: expected at least 10000, {least} (rule {args.rule}) and 1; "
            f"found {args.params}, {min(args.workers)} and {args.rounds}"
        )
    return args


def settings(rule: str, params: int) -> str:
    """Return the YAML of a rule; clipping is to half of the workers' norms, so that all are scaled."""
    more = {TRIMMED_MEAN: {"trim_share": 0.2}, CLIPPED_MEAN: {"clip_norm": NOISE * params**0.5 / 2}}
    return f"aggregation: {json.dumps({'rule': rule, **more.get(rule, {})})}\n"


class Worker(threading.Thread):
    """Takes part in ``rounds`` rounds."""

    def __init__(self, address: str, index: int, weights: Dict[str, np.ndarray], rounds: int, begin: Any) -> None:
        super().__init__(daemon=True)
        self._client = AggregationClient(address, f"silo_{index}", secrets.token_hex(4), f"{HOST}:{index}")
        self._weights, self._rounds, self._begin = weights, rounds, begin
        self.seconds: List[float] = []
        """Of each round."""
        self.error: Optional[Exception] = None

    @property
    def moved(self) -> int:
        """Bytes sent and received."""
        return self._client.bytes_up + self._client.bytes_down

    def run(self) -> None:
        """Push the same weights and receive the model, again and again."""
        try:
            self._client.acquire_lease(SAMPLES, self._client.job().fingerprint)
            self._begin.wait(SECONDS)
            self.seconds = take_part(self._client, self._weights, self._rounds, adopt=False)
        except Exception as error:
            self.error = error
            self._begin.abort()


def own_memory(directory: Path, redis: str) -> float:
    """Return the MB of a server that has hardly any model."""
    small = OurServer(directory, 10_000, 1, 1, redis)
    small.stop()
    return small.resident


def measure(args: argparse.Namespace, count: int, directory: Path, redis: str, own: float) -> Dict[str, Any]:
    """Return seconds of a round, bytes moved and the server's memory with ``count`` workers.

    Args:
        own: MB that a server needs beside the models.
    """
    rounds = args.rounds + WARM_UP
    more = settings(args.rule, args.params)
    server = OurServer(directory, args.params, count, rounds + 1, redis, more=more, servers=args.servers)
    try:
        random = np.random.default_rng(1)
        weights = {
            name: random.standard_normal(shape, np.float32) * np.float32(NOISE)
            for name, shape in model_shapes(args.params).items()
        }
        begin, cpu = threading.Barrier(count), server.cpu_seconds()
        workers = [Worker(server.address, index, weights, rounds, begin) for index in range(count)]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + SECONDS
        for worker in workers:
            worker.join(timeout=max(deadline - time.monotonic(), 0))
        failed = [str(worker.error or "it did not end in time") for worker in workers if not worker.seconds]
        if failed:
            raise UserError(f"{len(failed)} of {count} workers failed: {failed[0]}; {server.log.read_text()[-500:]}")
        peak, cpu = peak_memory(server.process.pid), server.cpu_seconds() - cpu
        others = [peak_memory(process.pid) for process in server.others]
    finally:
        server.stop()
    slowest = [max(times) for times in zip(*(worker.seconds for worker in workers))][WARM_UP:]
    seconds, moved = statistics.median(slowest), sum(worker.moved for worker in workers) / rounds
    held = count if args.rule in (MEDIAN, TRIMMED_MEAN) else 0
    model_mb = 4 * args.params / 2**20
    return {
        "workers": count,
        "seconds": seconds,
        "gb_moved": moved / 1e9,
        "seconds_per_gb": seconds / (moved / 1e9),
        "server_cpu_seconds": cpu / rounds,
        "server_own_mb": own,
        "server_peak_mb": peak,
        "other_servers_peak_mb": others,
        "server_models": (peak - own) / model_mb,
        "most_models": Round().max_uploads + 3 + held,
        "within": peak - own <= (Round().max_uploads + 3 + held) * model_mb + SLACK_MB,
    }


def show(result: Dict[str, Any]) -> None:
    """Print the table."""
    title = f"{result['params'] / 1e6:.1f}M float32, loopback, rule {result['rule']}, servers: {result['servers']}"
    table = Table(title=title, caption=f"median of {result['rounds']} rounds; memory over the process's own")
    for heading in (
        "workers",
        "seconds\na round",
        "GB\nmoved",
        "seconds\na GB",
        "servers'\nCPU s",
        "the first's peak",
        "at most\n(models)",
    ):
        table.add_column(heading, justify="right")
    for row in result["measured"]:
        memory_text = (
            f"{row['server_peak_mb']:.0f} MB = {row['server_own_mb']:.0f} MB + {row['server_models']:.2f} models"
        )
        numbers = [f"{row['seconds']:.2f}", f"{row['gb_moved']:.2f}", f"{row['seconds_per_gb']:.2f}"]
        numbers += [f"{row['server_cpu_seconds']:.2f}", memory_text, str(row["most_models"])]
        table.add_row(str(row["workers"]), *numbers)
    Console().print(table)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command: 1 where the server took more memory than it may."""
    args = parse(argv)
    with tempfile.TemporaryDirectory(dir=args.work_dir) as directory:
        redis = EmbeddedRedis(HOST, free_ports(1)[0])
        redis.ensure("benchmark")
        try:
            address = f"{HOST}:{redis.port}"
            own = own_memory(Path(directory), address)
            measured = [measure(args, count, Path(directory), address, own) for count in args.workers]
        finally:
            redis.leave()
    result = {
        "params": args.params,
        "rounds": args.rounds,
        "rule": args.rule,
        "servers": args.servers,
        "measured": measured,
    }
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if all(row["within"] for row in measured) else 1


if __name__ == "__main__":
    run_main(main)
