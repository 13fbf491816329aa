"""Starts a planned job on this machine by its own commands, and ends it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from cross_silo.errors import UserError
from cross_silo.launch.ending import end_roles
from cross_silo.launch.finish import Target, finish
from cross_silo.launch.role import Job, Role, running_roles
from cross_silo.launch.start import start_roles
from cross_silo.objects import Credentials
from cross_silo.security.secret_file import write_secret
from cross_silo.sedna.deliverer import PLAN, RESULT, ROLE
from cross_silo.sedna.environment import S3
from cross_silo.sedna.job import Planned
from cross_silo.sedna.plan import JobPlan
from cross_silo.sedna.transfers import bring_pre_trained, check_inputs, check_target, check_transmitter, prepare_dataset
from cross_silo.sedna.writing import write_files


def run(planned: Planned, foreground: bool = False, say: Callable[[str], None] = print) -> int:
    """Start the job: data and models first, then scheduler, server, workers, and what delivers the model.

    Where something does not start, what was started is ended again.

    Args:
        foreground: stay until the model is delivered.

    Raises:
        UserError: data is missing, a store does not take what is to go there, or a role does not start.
    """
    plan, access = planned.plan, planned.access
    _refuse_running(plan)
    check_inputs(plan)
    if plan.aggregator.model_url:
        check_target(plan.aggregator, planned.model_format, access.model)
    check_transmitter(plan.aggregator, access.transmitter)
    _write(plan)
    bring_pre_trained(plan.aggregator, access.pretrained)
    _prepare(planned, say)
    since = time.time()
    by_store = access.transmitter is not None and plan.aggregator.transmitter == S3
    secrets = access.transmitter.environment() if by_store else {}
    try:
        for command in plan.aggregator.commands:
            _wait([_start(command, plan.aggregator.environment, secrets)], "aggregator")
        _wait(
            [_start(command, item.environment, secrets) for item in plan.trainers for command in item.commands],
            "training workers",
        )
        return _start_deliverer(planned, since, foreground)
    except BaseException:
        end_roles([role for role in running_roles() if role.role_dir.parent == Path(plan.run_dir)])
        raise


def delete(run_dir: Path, say: Callable[[str], None] = print) -> None:
    """End the processes of the job in ``run_dir``; files stay."""
    finish(Target(run_dir=run_dir.resolve()), say)


def _refuse_running(plan: JobPlan) -> None:
    running = [role for role in running_roles() if role.role_dir.parent == Path(plan.run_dir)]
    if running:
        names = ", ".join(f"{role.name} (pid {role.pid})" for role in running)
        raise UserError(f"job {plan.fl_name!r} runs already in {plan.run_dir}: {names}; expected --delete before")


def _write(plan: JobPlan) -> None:
    for part in (plan.aggregator, *plan.trainers):
        write_files(part)
    run_dir = Path(plan.run_dir)
    (run_dir / RESULT).unlink(missing_ok=True)
    write_secret(run_dir / PLAN, json.dumps(plan.document()).encode())  # a url may hold a signature


def _prepare(planned: Planned, say: Callable[[str], None]) -> None:
    """Fetch and convert the data of all roles, one after the other."""
    plan, access = planned.plan, planned.access
    work = [(trainer.dataset, key) for trainer, key in zip(plan.trainers, access.datasets)]
    if plan.aggregator.evaluation is not None:
        work.append((plan.aggregator.evaluation, access.evaluation))
    for dataset, key in work:
        say(prepare_dataset(dataset, key))


def _start(
    command: Sequence[str], environment: Mapping[str, str], secrets: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(list(command), env={**os.environ, **environment, **secrets}, stdin=subprocess.DEVNULL)


def _wait(launchers: List["subprocess.Popen[bytes]"], what: str) -> None:
    """Wait until launchers have done their part. Raises UserError where one fails; its own line tells why."""
    try:
        statuses = [launcher.wait() for launcher in launchers]
    except BaseException:
        for launcher in launchers:
            launcher.terminate()
        raise
    failed = [status for status in statuses if status]
    if failed:
        raise UserError(f"{what}: not started (status {failed[0]}); the lines above say why; the job is ended")


def _start_deliverer(planned: Planned, since: float, foreground: bool) -> int:
    plan = planned.plan
    command = [sys.executable, "-m", "cross_silo.sedna.deliverer", "--run_dir", plan.run_dir, "--since", str(since)]
    if planned.model_format:
        command += ["--format", planned.model_format]
    role = Role(ROLE, command, plan.aggregator.address, environment=_environment(planned.access.model))
    redis_address = plan.aggregator.federated["distributed_cache"]["address"]
    return start_roles(Job(plan.fl_name, redis_address, Path(plan.run_dir)), [role], foreground)


def _environment(credentials: Optional[Credentials]) -> Dict[str, str]:
    return dict(credentials.environment()) if credentials is not None else {}
