"""``python -m cross_silo.sedna aggregator``: a job's server in a pod, from Sedna's environment to the final model."""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import List, Mapping, Optional

from cross_silo.checkpoint import newest_checkpoint, read_checkpoint
from cross_silo.errors import UserError
from cross_silo.launch import logs
from cross_silo.launch.finish import Target, finish
from cross_silo.launch.record import read_json
from cross_silo.objects import shown
from cross_silo.report.summary import FILE as SUMMARY
from cross_silo.report.summary import METRICS
from cross_silo.sedna.algorithms import lost_with
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.plan import AggregatorPlan, Place, aggregator_plan, fl_name_of
from cross_silo.sedna.pod import Foreground, Watch, credentials_of, host_path
from cross_silo.sedna.pod_access import aggregator_access
from cross_silo.sedna.status_report import Report
from cross_silo.sedna.transfers import bring_pre_trained, check_target, check_transmitter, deliver
from cross_silo.sedna.writing import write_files

log = logging.getLogger(__name__)

FINISHED = "finished"


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line; all else is in the environment."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.sedna aggregator", description=__doc__)
    parser.add_argument("--run_dir", type=Path, help="where the job writes; runs/{job} if not given")
    parser.add_argument("--redis_address", default="127.0.0.1:2345", help="host:port; on loopback it is started here")
    parser.add_argument("--scheduler_manage_address", default="127.0.0.1:18019", help="host:port of the REST")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None, environ: Optional[Mapping[str, str]] = None) -> int:
    """Serve the job to its end and deliver its model. Returns the exit status."""
    arguments = parse(argv)
    environ = os.environ if environ is None else environ
    logs.start("aggregator")
    settings = Settings.from_env(environ)
    run_dir = (arguments.run_dir or Path("runs") / fl_name_of(settings)).resolve()
    settings, access = aggregator_access(settings, run_dir, environ)
    place = Place(run_dir, arguments.redis_address, arguments.scheduler_manage_address)
    plan = aggregator_plan(settings, place, federated=access.federated)
    if not plan.model_url:
        raise UserError("MODEL_URL is not set: the job's Model is missing or has no url; expected where the model goes")
    target = check_target(plan, credentials=credentials_of(settings))
    check_transmitter(plan, credentials_of(settings))
    lost = lost_with(plan.algorithm, target)
    if lost:
        log.warning("MODEL_URL is %s: %s", shown(target), lost)
    role = Foreground(access.environment)
    watch = Watch(settings, lambda status: look(status, run_dir, host_path(target, settings)))
    good = False
    try:
        write_files(plan)
        if is_made(plan):
            log.info("all rounds are made; the model is delivered")
        else:
            status = serve(plan, settings, role, watch, run_dir)
            if status:
                return status
        url = deliver(plan, credentials=credentials_of(settings))
        log.info("the model is at %s", shown(url))
        good = True
        return 0
    finally:
        watch.end(good)


def serve(plan: AggregatorPlan, settings: Settings, role: Foreground, watch: Watch, run_dir: Path) -> int:
    """Run scheduler and server to the job's end. Returns 0 where it finished.

    Raises:
        UserError: the job was stopped, or this process was told to end.
    """
    bring_pre_trained(plan, credentials_of(settings))
    watch.tell()
    began = time.time()
    *others, server = plan.commands
    try:
        for command in others:
            status = role.run(command)
            if status:
                return status
        status = role.run([*server, "--foreground"], watch.tell)
    finally:
        finish(Target(run_dir=run_dir), log.info)
    role.check()
    if status == 0:
        state = (read_json(run_dir / SUMMARY) or {}).get("state") if summary_time(run_dir) >= began else None
        if state != FINISHED:
            raise UserError(f"job {plan.fl_name!r} is {state or 'not finished'}: its model is not delivered")
    return status


def is_made(plan: AggregatorPlan) -> bool:
    """Tell whether an earlier container of this pod made the last round, but did not deliver its model."""
    newest = newest_checkpoint(plan.checkpoint_dir, plan.fl_name)
    return newest is not None and read_checkpoint(newest)[1].round >= int(plan.federated["fl_iteration_num"])


def look(status: str, run_dir: Path, model_url: str) -> Report:
    """Return how the job stands, by the summary that the server writes after each round."""
    summary = read_json(run_dir / SUMMARY) or {}
    good = [record for record in summary.get("rounds", []) if record["good"]]
    if not good:
        return Report(status)
    last = good[-1]
    metrics = {"loss": last.get("mean_loss"), **{name: last.get(name) for name in METRICS}}
    return Report(status, last["round"], last["samples"], metrics, model_url)


def summary_time(run_dir: Path) -> float:
    """Return when the summary was written; 0 where there is none."""
    path = run_dir / SUMMARY
    return path.stat().st_mtime if path.is_file() else 0.0
