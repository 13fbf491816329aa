"""All checks of a role, and the quick ones with which the launch scripts begin."""

from __future__ import annotations

from typing import List

from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError
from cross_silo.launch.workers import WorkerPlan
from cross_silo.preflight.certificates import check_access
from cross_silo.preflight.check import ERROR, Check
from cross_silo.preflight.files import check_checkpoint, check_data, check_evaluation, check_model, check_silos
from cross_silo.preflight.network import check_clock, check_port, check_redis
from cross_silo.preflight.plan import WORKER, Plan
from cross_silo.preflight.room import check_room
from cross_silo.preflight.versions import check_versions


def run_checks(plan: Plan) -> List[Check]:
    """Return what every check found."""
    checks = check_versions(plan) + check_model(plan) + check_evaluation(plan) + check_silos(plan)
    checks += check_data(plan) + check_checkpoint(plan)
    checks.append(check_port(plan))
    return checks + _surroundings(plan)


def check_launch(plan: Plan) -> None:
    """Make the checks that the launch itself does not: versions, access, Redis, clock, memory, disk.

    Raises:
        UserError: one found an error.
    """
    errors = [check for check in check_versions(plan) + _surroundings(plan) if check.result == ERROR]
    if errors:
        raise UserError("; ".join(f"{check.what}: {check.found}" for check in errors))


def _surroundings(plan: Plan) -> List[Check]:
    checks = check_access(plan)
    checks += [check_clock(plan)] if plan.role == WORKER else check_redis(plan)
    return checks + check_room(plan)


def check_workers(plan: WorkerPlan, config: FederatedConfig) -> None:
    """Make them for workers, as their launch scripts have planned them. Raises UserError."""
    check_launch(
        Plan(
            WORKER,
            config,
            plan.http_server_address,
            plan.run_dir,
            pre_trained=plan.pre_trained,
            count=plan.count,
            first=plan.first,
            silo=plan.silo,
        )
    )
