"""Waits for a job's end and writes its final model where the job wants it; ``python -m cross_silo.sedna.deliverer``."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import redis

from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready
from cross_silo.launch.record import read_json, write_json
from cross_silo.launch.role import running_roles
from cross_silo.objects import shown
from cross_silo.report.summary import FILE as SUMMARY
from cross_silo.sedna.job_progress import job_store
from cross_silo.sedna.plan import JobPlan
from cross_silo.sedna.transfers import deliver

log = logging.getLogger(__name__)

ROLE = "deliverer"
PLAN, RESULT = "sedna/plan.json", "sedna/result.json"
"""Files of the run directory."""
POLL_SECONDS = 2.0
ALONE_SECONDS = 60.0
"""Time in which somebody may start the job's roles again."""
FINISHED = "finished"


def load_plan(run_dir: Path) -> JobPlan:
    """Return the plan of the job that was started in ``run_dir``. Raises UserError."""
    document = read_json(run_dir / PLAN)
    if document is None:
        raise UserError(f"{run_dir}: has no {PLAN}; expected the run directory of a job of run_sedna.py")
    return JobPlan.from_document(document, str(run_dir / PLAN))


def delivery(run_dir: Path) -> Dict[str, Any]:
    """Return whether the final model was written where the job wants it; nothing before the job's end."""
    found = read_json(run_dir / RESULT) or {}
    return {name: found[name] for name in ("delivered", "reason") if name in found}


def job_state(plan: JobPlan, since: float) -> str:
    """Return how the job stands: of its Redis, or of the summary where that is gone; empty where nothing says it.

    Args:
        since: Unix time; an older summary is of an earlier run.
    """
    store = job_store(plan)
    try:
        job = store.job() if store is not None else None
    except redis.RedisError:
        job = None
    if job is not None:
        return job.get("state", "")
    summary = Path(plan.run_dir) / SUMMARY
    if summary.is_file() and summary.stat().st_mtime >= since:
        return str((read_json(summary) or {}).get("state", ""))
    return ""


def has_processes(plan: JobPlan) -> bool:
    """Tell whether any role of the job runs on this machine, this one aside."""
    run_dir = Path(plan.run_dir)
    return any(role.role_dir.parent == run_dir and role.name != ROLE for role in running_roles())


def wait_and_deliver(
    plan: JobPlan,
    format: str,
    since: float,
    pause: Callable[[float], None] = time.sleep,
    alive: Callable[[JobPlan], bool] = has_processes,
) -> Optional[str]:
    """Wait until the job has ended and write its model; return the model's url, None where it wants none.

    Args:
        pause: waits so many seconds.
        alive: tells whether the job has processes; without any for a minute nothing will end it.

    Raises:
        UserError: the job did not finish, or the model cannot be written.
    """
    alone = 0.0
    while (state := job_state(plan, since)) not in ENDED:
        alone = 0.0 if alive(plan) else alone + POLL_SECONDS
        if alone > ALONE_SECONDS:
            raise UserError(f"job {plan.fl_name!r} has no processes left and did not end: its model is not delivered")
        pause(POLL_SECONDS)
    if state != FINISHED:
        raise UserError(f"job {plan.fl_name!r} is {state}: its model is not delivered")
    return deliver(plan.aggregator, format) if plan.aggregator.model_url else None


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.sedna.deliverer", description=__doc__)
    parser.add_argument("--run_dir", type=Path, required=True, help="the job's run directory")
    parser.add_argument("--format", default="", help="the Model's format")
    parser.add_argument("--since", type=float, required=True, help="Unix time at which the job was started")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    logs.start(ROLE)
    plan = load_plan(arguments.run_dir)
    write_ready(arguments.run_dir / ROLE, plan.aggregator.address)
    result = arguments.run_dir / RESULT
    try:
        url = wait_and_deliver(plan, arguments.format, arguments.since)
    except UserError as error:
        write_json(result, {"delivered": False, "reason": str(error)})
        raise
    write_json(result, {"delivered": True, "model_url": shown(url) if url else ""})
    log.info("the model is at %s", shown(url) if url else "its checkpoint alone: no MODEL_URL is set")
    return 0


if __name__ == "__main__":
    run_main(main)
