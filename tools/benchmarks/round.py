"""Seconds, memory and bytes of a federated round, beside the floor: plain numpy over HTTP without any check."""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import secrets
import socketserver
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from our_server import HOST, OurServer, cpu_seconds, model_shapes
from rich.console import Console
from rich.table import Table

from cross_silo.config.federated import load_federated
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.errors import UserError, run_main
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.proc import peak_memory
from cross_silo.protocol.access import credentials
from cross_silo.protocol.client import AggregationClient

SAMPLES = 64
WARM_UP = 4
"""Rounds left out: until then memory is touched for the first time, and checkpoints are added rather than replaced."""
PIECE = 4 << 20


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=int, default=41_088_002, help="float32 parameters of the model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="the median counts")
    parser.add_argument(
        "--auth", choices=("none", "mtls"), default="none", help="how ours authenticates; the floor: none"
    )
    parser.add_argument("--work_dir", help="where checkpoints are written for a while; default: TMPDIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.params < 10_000 or min(args.workers, args.rounds) < 1:
        raise UserError("--params, --workers, --rounds: expected at least 10000, 1 and 1")
    return args


class FloorServer(socketserver.ThreadingMixIn, HTTPServer):
    """Sums what is posted and gives the mean back."""

    daemon_threads = True

    def __init__(self, params: int, workers: int) -> None:
        super().__init__((HOST, 0), FloorHandler)
        self.params, self.workers = params, workers
        self.total, self.model = np.zeros(params, np.float32), np.zeros(params, np.float32)
        self.changed = threading.Condition()
        self.free: List[bytearray] = []
        self.count, self.samples, self.iteration = 0, 0, 1


class FloorHandler(BaseHTTPRequestHandler):
    """A thread a connection."""

    protocol_version = "HTTP/1.1"
    server: FloorServer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:  # noqa: N802
        """Take an update."""
        server = self.server
        with server.changed:
            buffer = server.free.pop() if server.free else bytearray(4 * server.params)
        view, done = memoryview(buffer), 0
        while done < len(view):
            done += self.rfile.readinto(view[done : done + PIECE])
        update = np.frombuffer(buffer, np.float32)
        with server.changed:
            if server.count:
                np.add(server.total, update, out=server.total)
            else:
                np.copyto(server.total, update)
            server.count += 1
            server.samples += SAMPLES
            if server.count == server.workers:
                np.divide(server.total, np.float32(server.samples), out=server.model)
                server.count, server.samples = 0, 0
                server.iteration += 1
                server.changed.notify_all()
            server.free.append(buffer)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802
        """Give the mean of a round."""
        iteration = int(self.path[1:])
        with self.server.changed:
            self.server.changed.wait_for(lambda: self.server.iteration > iteration)
        view = memoryview(self.server.model).cast("B")
        self.send_response(200)
        self.send_header("Content-Length", str(len(view)))
        self.end_headers()
        for start in range(0, len(view), PIECE):
            self.wfile.write(view[start : start + PIECE])


def serve_floor(params: int, workers: int, port: Any) -> None:
    """Run the floor's server until it is killed."""
    server = FloorServer(params, workers)
    port.put(server.server_address[1])
    server.serve_forever()


def floor_worker(index: int, params: int, rounds: int, port: int, results: Any, barrier: Any) -> None:
    """Push and pull ``rounds`` times; put the seconds of each."""
    weights = np.random.default_rng(index).standard_normal(params, np.float32)
    received = bytearray(4 * params)
    barrier.wait()
    seconds = []
    for iteration in range(1, rounds + 1):
        began = time.perf_counter()
        np.multiply(weights, np.float32(SAMPLES), out=weights)
        connection = http.client.HTTPConnection(HOST, port)
        connection.request("POST", "/", memoryview(weights).cast("B"), {"Content-Length": str(weights.nbytes)})
        connection.getresponse().read()
        connection.request("GET", f"/{iteration}")
        response, view, done = connection.getresponse(), memoryview(received), 0
        while done < len(view):
            done += response.readinto(view[done:])
        weights = np.frombuffer(received, np.float32).copy()
        connection.close()
        seconds.append(time.perf_counter() - began)
    results.put((index, seconds, {}))


def measure_floor(args: argparse.Namespace) -> List[float]:
    """Return the seconds of each round of the floor."""
    context = multiprocessing.get_context("spawn")
    port: Any = context.Queue()
    server = context.Process(target=serve_floor, args=(args.params, args.workers, port), daemon=True)
    server.start()
    try:
        return run_workers(args, floor_worker, (args.params, args.rounds + WARM_UP, port.get(timeout=60)))[0]
    finally:
        server.kill()
        server.join()


# ours


def take_part(client: AggregationClient, weights: Dict[str, np.ndarray], rounds: int, adopt: bool) -> List[float]:
    """Push ``weights`` and receive the model, again and again; return the seconds of each round.

    Args:
        adopt: the model takes the place of ``weights``; otherwise the same are pushed again.

    Raises:
        RuntimeError: an update was refused, or a round brought no model.
    """
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        ticket = client.start_round(SAMPLES, wait=60)
        pushed = client.push(ticket, weights, SAMPLES, 1.0, {})
        if not pushed.accepted:
            raise RuntimeError(f"update refused: {pushed.reason}")
        reply = client.get_model(ticket.iteration, wait=60)
        if reply.weights is None:
            raise RuntimeError(f"no model: {reply.reason}")
        if adopt:
            for name, array in weights.items():
                np.copyto(array, reply.weights[name])
        seconds.append(time.perf_counter() - began)
    return seconds


def our_worker(index: int, params: int, rounds: int, address: str, yaml: Path, results: Any, barrier: Any) -> None:
    """Take part in ``rounds`` rounds as a worker does; put seconds, memory and bytes."""
    shapes = model_shapes(params)
    rng = np.random.default_rng(index)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    own = peak_memory(os.getpid())
    silo = f"silo_{index}"
    shown = credentials(load_federated(yaml), silo)
    client = AggregationClient(address, silo, secrets.token_hex(4), f"{HOST}:{os.getpid()}", shown=shown)
    client.acquire_lease(SAMPLES, client.job().fingerprint)
    barrier.wait()
    cpu = time.process_time()
    seconds = take_part(client, weights, rounds, adopt=True)
    peak, cpu = peak_memory(os.getpid()), time.process_time() - cpu
    client.release()
    told = {"own": own, "peak": peak, "up": client.bytes_up, "down": client.bytes_down, "cpu": cpu}
    results.put((index, seconds, told))


def run_workers(
    args: argparse.Namespace, target: Callable[..., None], arguments: Tuple[Any, ...]
) -> Tuple[List[float], List[Dict[str, float]]]:
    """Run workers at once; return each round's seconds (of the slowest worker, the first rounds left out) and more."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    barrier = context.Barrier(args.workers)
    workers = [
        context.Process(target=target, args=(index, *arguments, results, barrier), daemon=True)
        for index in range(args.workers)
    ]
    for worker in workers:
        worker.start()
    try:
        told = [results.get(timeout=300) for _ in workers]
    finally:
        for worker in workers:
            worker.join(timeout=30)
            worker.kill()
    slowest = [max(rounds) for rounds in zip(*(seconds for _, seconds, _ in told))]
    return slowest[WARM_UP:], [extra for _, _, extra in told]


def measure_ours(args: argparse.Namespace, directory: Path, redis: str) -> Dict[str, Any]:
    """Return seconds of each round, memory in MB and bytes of our server and workers."""
    small = OurServer(directory, 10_000, args.workers, 1, redis, args.auth)
    small.stop()
    server = OurServer(directory, args.params, args.workers, args.rounds + WARM_UP + 1, redis, args.auth)
    try:
        asked = (args.params, args.rounds + WARM_UP, server.address, server.yaml)
        cpu = cpu_seconds(server.process.pid)
        seconds, told = run_workers(args, our_worker, asked)
        cpu = cpu_seconds(server.process.pid) - cpu + sum(item["cpu"] for item in told)
        server_peak = peak_memory(server.process.pid)
    finally:
        server.stop()
    model = 4 * args.params / 2**20
    return {
        "seconds": seconds,
        "cpu_seconds": cpu / (args.rounds + WARM_UP),
        "server_own_mb": small.resident,
        "server_peak_mb": server_peak,
        "server_models": (server_peak - small.resident) / model,
        "worker_own_mb": max(item["own"] for item in told),
        "worker_peak_mb": max(item["peak"] for item in told),
        "worker_models": max(item["peak"] - item["own"] for item in told) / model,
        "bytes_up": sum(item["up"] for item in told) / (args.rounds + WARM_UP),
        "bytes_down": sum(item["down"] for item in told) / (args.rounds + WARM_UP),
    }


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure the floor, ours, and the floor again, so that what else the machine does meets both."""
    with tempfile.TemporaryDirectory(dir=args.work_dir) as directory:
        redis = EmbeddedRedis(HOST, free_ports(1)[0])
        redis.ensure("benchmark")
        try:
            floor = measure_floor(args)
            ours = measure_ours(args, Path(directory), f"{HOST}:{redis.port}")
            floor += measure_floor(args)
        finally:
            redis.leave()
    floor_seconds, our_seconds = statistics.median(floor), statistics.median(ours.pop("seconds"))
    return {
        "params": args.params,
        "workers": args.workers,
        "rounds": args.rounds,
        "auth": args.auth,
        "floor_seconds": floor_seconds,
        "seconds": our_seconds,
        "ratio": our_seconds / floor_seconds,
        **ours,
    }


def show(result: Dict[str, Any]) -> None:
    """Print the table."""
    title = f"One round: {result['params'] / 1e6:.1f}M float32, {result['workers']} workers, loopback"
    title += f", auth {result['auth']}"
    table = Table(title=title, caption="median of the rounds; memory over the process's own, in sizes of the model")
    for heading in ("", "ours", "floor", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(
        "seconds a round", f"{result['seconds']:.3f}", f"{result['floor_seconds']:.3f}", f"{result['ratio']:.2f}"
    )
    table.add_row("processor seconds a round, all", f"{result['cpu_seconds']:.2f}", "", "")
    for role in ("worker", "server"):
        peak, own, models = (result[f"{role}_{name}"] for name in ("peak_mb", "own_mb", "models"))
        table.add_row(f"{role}: peak memory", f"{peak:.0f} MB = {own:.0f} MB + {models:.2f} models", "", "")
    table.add_row("bytes up a round", f"{result['bytes_up'] / 1e6:.1f} MB", "", "")
    table.add_row("bytes down a round", f"{result['bytes_down'] / 1e6:.1f} MB", "", "")
    Console().print(table)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    result = measure(args)
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    run_main(main)
