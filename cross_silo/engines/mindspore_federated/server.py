"""One of the wheel's C++ servers, begun with our newest checkpoint; runs in .venv-engine, without MindSpore.

No Python thread runs while the engine does, so all is done in its callbacks: when it serves, and when an iteration
has ended.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from types import ModuleType
from typing import Any, List, Optional

import numpy as np
import redis

from cross_silo.aggregation.job import Job
from cross_silo.checkpoint import list_checkpoints, newest_checkpoint, read_checkpoint
from cross_silo.config.federated import load_federated, split_address
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.client import make_client
from cross_silo.coordination.store import ENDED
from cross_silo.engines.mindspore_federated.extension import SERVER, configure, load
from cross_silo.engines.mindspore_federated.record import EngineRecord, Verdict
from cross_silo.engines.mindspore_federated.settings import engine_settings
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready

log = logging.getLogger(__name__)


class Callbacks:
    """What the engine calls, with the GIL held and its requests waiting: it must be short and raise nothing."""

    def __init__(self, job: Job, record: EngineRecord, role_dir: Path, address: str) -> None:
        self._job = job
        self._record = record
        self._role_dir = role_dir
        self._address = address
        self._untold: List[Verdict] = []

    def started(self) -> None:
        """The engine serves."""
        write_ready(self._role_dir, self._address)
        log.info("serves at %s", self._address)

    def stopped(self) -> None:
        """The engine is about to leave."""
        log.info("leaves")

    def iteration_ended(
        self, features: List[Any], fl_name: str, instance: str, iteration: int, valid: bool, reason: str
    ) -> None:
        """Write the model of a good iteration, and tell how it ended."""
        try:
            self._untold.append(self._judge(features, iteration, valid, reason))
        except Exception:  # the engine would log it and nobody else would hear of it
            log.exception("iteration %d", iteration)
            self._untold.append(Verdict(iteration, False, "the server could not take over its model", self._newest()))
        try:
            while self._untold:
                self._record.add_verdict(self._untold[0])
                del self._untold[0]
        except redis.RedisError as error:
            log.warning("Redis does not answer (%s): %d verdicts follow later", error, len(self._untold))

    def _newest(self) -> int:
        return max(
            (round for round, _ in list_checkpoints(self._job.checkpoint_dir, self._job.config.fl_name)), default=0
        )

    def _judge(self, features: List[Any], iteration: int, valid: bool, reason: str) -> Verdict:
        newest = self._newest()
        if not valid:
            log.warning("iteration %d failed: %s", iteration, reason)
            return Verdict(iteration, False, reason, newest)
        began = time.monotonic()
        tensors = {feature.feature_name: feature.data for feature in features}
        missing = [name for name in self._job.shapes if name not in tensors]
        if missing:
            return Verdict(iteration, False, f"its model lacks {missing[0]}", newest)
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            return Verdict(iteration, False, "its model is not finite", newest)
        if not any(np.any(tensor) for tensor in tensors.values()):  # what the engine stores where a sum overflows
            return Verdict(iteration, False, "its model is all zeros: the sum of the updates is not finite", newest)
        try:
            path = self._job.save(newest + 1, {name: tensors[name].reshape(-1) for name in self._job.shapes})
        except OSError as error:
            return Verdict(iteration, False, f"its checkpoint cannot be written: {error.strerror or error}", newest)
        log.info("iteration %d made round %d", iteration, newest + 1)
        return Verdict(iteration, True, "", newest + 1, path, round(time.monotonic() - began, 3))


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the server process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m cross_silo.engines.mindspore_federated.server", description=__doc__
    )
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--server_index", type=int, required=True, help="number of the server's role directory")
    parser.add_argument("--http_server_address", required=True, help="IPv4:port that workers ask")
    parser.add_argument("--tcp_server_ip", required=True, help="IPv4 address of this host among servers")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the global model's checkpoints")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve until the job's front ends the engine, or SIGTERM, which the engine handles itself."""
    arguments = parse(argv)
    name = f"server_{arguments.server_index}"
    logs.start(name)
    config = load_federated(arguments.yaml_config)
    connect(config.distributed_cache, start_embedded=False, user=name).close()
    host, port = split_address(config.distributed_cache.address, "distributed_cache.address")
    client = make_client(host, port, tries=0)  # in a callback nothing may wait long
    begun = JobStore(client, config.fl_name).job()
    if begun is None or begun["state"] in ENDED:
        raise UserError(f"job {config.fl_name!r} does not run: its front is started first (scripts/run_server.py)")
    path = newest_checkpoint(arguments.checkpoint_dir, config.fl_name)
    if path is None:
        raise UserError(f"--checkpoint_dir {arguments.checkpoint_dir} has no usable checkpoint of {config.fl_name!r}")
    weights, info = read_checkpoint(path)
    job = Job(config, weights, info, arguments.checkpoint_dir, begun["instance"])
    record = EngineRecord(client, config.fl_name)
    for node in record.bury_dead_servers():
        log.info("server %s of this job is dead", node)
    lost = record.drop_lost_iteration()
    if lost is not None:
        record.add_verdict(Verdict(lost, False, "the engine's server that had its updates is gone", info.round))
    role_dir = arguments.run_dir / name
    engine = load()
    context = engine.FLContext.get_instance()
    context.set_http_server_address(arguments.http_server_address)
    context.set_tcp_server_ip(arguments.tcp_server_ip)
    context.set_checkpoint_dir(str(arguments.checkpoint_dir))
    configure(engine, engine_settings(config, role_dir), SERVER, arguments.yaml_config)
    log.info("begins with the model of round %d from %s", info.round, path)
    _serve(engine, job, weights, info.round + 1, Callbacks(job, record, role_dir, arguments.http_server_address))
    return 0


def _serve(engine: ModuleType, job: Job, weights: "dict[str, np.ndarray]", iteration: int, calls: Callbacks) -> None:
    """Run the engine. Raises UserError where it does not start."""
    tensors = {name: np.ascontiguousarray(weights[name]).reshape(-1) for name in job.shapes}  # it keeps no copy
    features = [engine.FeatureItem_(name, tensors[name], list(job.shapes[name]), "fp32", True) for name in job.shapes]
    try:
        engine.Federated_.start_federated_server(
            features, iteration, calls.started, calls.stopped, calls.iteration_ended
        )
    except RuntimeError as error:
        raise UserError(f"the engine ended: {error}") from None


if __name__ == "__main__":
    run_main(main)
