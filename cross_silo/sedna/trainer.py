"""``python -m cross_silo.sedna trainer -i 1``: a silo's worker in a pod, from Sedna's environment to the job's end."""

from __future__ import annotations

import argparse
import logging
import os
import re
import socket
import time
from pathlib import Path
from typing import List, Mapping, Optional

from cross_silo.config.federated import load_federated
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from cross_silo.launch import logs
from cross_silo.mistnet.edge import FEATURES
from cross_silo.mistnet.writer import is_whole
from cross_silo.protocol.access import credentials
from cross_silo.protocol.client import AggregationClient, ServerUnreachable
from cross_silo.report.loss_log import epoch_means, read_loss_log
from cross_silo.sedna.algorithms import MISTNET
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.plan import Place, TrainerPlan, fl_name_of, trainer_plan
from cross_silo.sedna.pod import Foreground, Watch, credentials_of, host_path
from cross_silo.sedna.pod_access import trainer_access
from cross_silo.sedna.status_report import Report
from cross_silo.sedna.transfers import prepare_dataset
from cross_silo.sedna.writing import write_files

log = logging.getLogger(__name__)

WAIT_SECONDS = 300.0
"""For the aggregator, where CONNECT_TIMEOUT is not set; as long as Sedna's library waits."""
ASK_SECONDS = 5.0


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line; all else is in the environment."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.sedna trainer", description=__doc__)
    parser.add_argument("-i", "--id", type=int, required=True, help="the worker's number, from 1; no two have the same")
    parser.add_argument("--run_dir", type=Path, help="where the worker writes; runs/{job} if not given")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None, environ: Optional[Mapping[str, str]] = None) -> int:
    """Train to the job's end. Returns the exit status."""
    arguments = parse(argv)
    environ = os.environ if environ is None else environ
    logs.start(f"trainer_{arguments.id}")
    settings = Settings.from_env(environ)
    count = settings.participants_count or arguments.id
    if not 1 <= arguments.id <= count:
        raise UserError(f"-i is {arguments.id}, expected 1 to {count} (PARTICIPANTS_COUNT)")
    access = trainer_access(settings, environ)
    run_dir = (arguments.run_dir or Path("runs") / fl_name_of(settings)).resolve()
    plan = trainer_plan(settings, Place(run_dir), arguments.id - 1, federated=access.federated)
    role = Foreground(access.environment)
    watch = Watch(settings, lambda status: look(status, plan, run_dir, host_path(settings.model_url, settings)))
    good = False
    try:
        write_files(plan)
        watch.tell()
        log.info("%s", prepare_dataset(plan.dataset, credentials_of(settings)))
        await_aggregator(plan, role, settings.connect_timeout or WAIT_SECONDS)
        status = role.run(worker_command(plan), watch.tell)
        role.check()
        good = status == 0
        return status
    finally:
        watch.end(good)


def worker_command(plan: TrainerPlan) -> List[str]:
    """Return the command of the worker that takes part in the job."""
    return [*plan.commands[-1], "--foreground"]


def await_aggregator(plan: TrainerPlan, role: Foreground, seconds: float) -> None:
    """Wait until the job's server answers: pods start in any order, and names of services come late.

    Raises:
        UserError: it does not in that time, or would not have this silo.
    """
    shown = credentials(load_federated(plan.federated_file), plan.silo)
    node = f"{socket.gethostname()}:{os.getpid()}"
    ask = min(ASK_SECONDS, seconds)
    client = AggregationClient(plan.address, plan.silo, "waiting", node, wait_for_server=ask, shown=shown)
    end, told = time.monotonic() + seconds, ""
    while True:
        role.check()
        try:
            client.job()
            return
        except ServerUnreachable as error:
            if time.monotonic() > end:
                raise UserError(f"the aggregator did not come for {seconds:g} s (CONNECT_TIMEOUT): {error}") from None
            if str(error) != told:
                told = str(error)
                log.info("waiting for the aggregator: %s", told)


def look(status: str, plan: TrainerPlan, run_dir: Path, model_url: str) -> Report:
    """Return how the worker stands, by the checkpoints and the loss log that it writes, with MistNet its features."""
    shard = Path(plan.dataset.mindrecord_dir)
    role_dir = run_dir / f"worker_{plan.index}"
    names = [path.name for path in (role_dir / "ckpt").glob("*/*epoch.ckpt")]
    # the model of round n is named after the epoch before it
    rounds = [int(found[1]) + 1 for found in (re.search(r"-(\d+)epoch\.ckpt$", name) for name in names) if found]
    samples = read_manifest(shard).num_images if shard.exists() else 0
    if plan.algorithm == MISTNET:
        return Report(status, int(is_whole(role_dir / FEATURES)), samples)
    if not rounds:
        return Report(status, 0, samples)
    means = epoch_means(read_loss_log(role_dir / "loss_0.log"))
    metrics = {"loss": means[max(means)]} if means else {}
    return Report(status, max(rounds), samples, metrics, model_url)
