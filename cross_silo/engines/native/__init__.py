"""The project's own engine: one or several aggregators, a scheduler over Redis, and the evaluator beside the first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, List

from cross_silo.config.auth import SCHEDULER, SERVER
from cross_silo.config.federated import FederatedConfig, require_protected
from cross_silo.config.mistnet import MISTNET
from cross_silo.engines import SchedulerPlan, ServerPlan
from cross_silo.errors import UserError
from cross_silo.launch.arguments import check_address, check_file
from cross_silo.launch.role import Role
from cross_silo.launch.server_addresses import listening_at
from cross_silo.protocol.access import Access, credentials

__all__ = [
    "check_checkpoint_dir",
    "check_model",
    "client_class",
    "evaluates",
    "evaluator_role",
    "scheduler_roles",
    "server_roles",
]


def __getattr__(name: str) -> Any:
    """Import the workers' client where it is asked for: it needs numpy, which the scheduler does without."""
    if name == "client_class":
        from cross_silo.protocol.client import AggregationClient

        return AggregationClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def scheduler_roles(plan: SchedulerPlan, config: FederatedConfig) -> List[Role]:
    """Return the scheduler. Raises UserError for an address that other machines reach."""
    flag = "--scheduler_manage_address"
    check_address(plan.address, flag, config)
    Access(config, SCHEDULER, ())
    command = [sys.executable, "-m", "cross_silo.engines.native.scheduler"]
    command += ["--yaml_config", plan.yaml_config, flag, plan.address, "--run_dir", str(plan.run_dir)]
    return [Role("scheduler", command, plan.address, listen_flag=flag, ready_seconds=30.0)]


def server_roles(plan: ServerPlan, config: FederatedConfig) -> List[Role]:
    """Return the server, and what measures or trains beside it. Raises UserError for what cannot work."""
    if config.algorithm == MISTNET:
        from cross_silo.mistnet.launch import mistnet_roles

        return mistnet_roles(plan, config)
    addresses = listening_at(plan.http_server_address, plan.count)
    check_address(plan.http_server_address, "--http_server_address", config)
    require_protected(plan.tcp_server_ip, "--tcp_server_ip", config)
    Access(config, SERVER, ())
    if plan.count > 1:
        credentials(config, SERVER, SERVER)
    check_model(plan)
    is_measured = evaluates(plan, config)
    check_checkpoint_dir(plan)
    # the others first: they need nobody, and the first one finds them when it starts
    roles = [_shard_server(plan, index, address) for index, address in enumerate(addresses) if index]
    roles.append(_server(plan))
    if is_measured:
        roles.append(evaluator_role(plan))
    return roles


def check_checkpoint_dir(plan: ServerPlan) -> None:
    """Make the directory of the checkpoints. Raises UserError where that, or writing there, is not possible."""
    try:
        plan.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--checkpoint_dir is {plan.checkpoint_dir}: {error.strerror}") from None
    if not os.access(plan.checkpoint_dir, os.W_OK):
        raise UserError(f"--checkpoint_dir is {plan.checkpoint_dir}: this user cannot write there")


def check_model(plan: ServerPlan) -> None:
    """Refuse a model YAML or a pre-trained checkpoint that cannot be. Raises UserError."""
    if plan.config is None:
        if plan.pre_trained:
            raise UserError("--pre_trained is given without --config; expected the model YAML that it is for")
        return
    from cross_silo.config.model import load_model

    load_model(plan.config)
    if plan.pre_trained:
        check_file(plan.pre_trained, "--pre_trained")


def evaluates(plan: ServerPlan, config: FederatedConfig) -> bool:
    """Tell whether the job evaluates its models. Raises UserError where it is to and cannot."""
    evaluation = config.evaluation
    if not evaluation.annotations:
        return False
    check_file(evaluation.annotations, f"{plan.yaml_config}: evaluation.annotations")
    if not Path(evaluation.image_dir).is_dir():
        raise UserError(f"{plan.yaml_config}: evaluation.image_dir is {evaluation.image_dir}: no such directory")
    if plan.config is None:
        raise UserError(f"{plan.yaml_config}: evaluation is set; expected --config with the model to evaluate")
    return True


def _server(plan: ServerPlan) -> Role:
    flag = "--http_server_address"
    command = [sys.executable, "-m", "cross_silo.aggregation.server"]
    command += ["--yaml_config", plan.yaml_config, flag, plan.http_server_address]
    command += ["--tcp_server_ip", plan.tcp_server_ip, "--checkpoint_dir", str(plan.checkpoint_dir)]
    command += ["--run_dir", str(plan.run_dir)]
    if plan.count > 1:
        command += ["--servers", str(plan.count)]
    if plan.config is not None:
        command += ["--config", plan.config]
    if plan.pre_trained:
        command += ["--pre_trained", plan.pre_trained]
    # with a model YAML it may first make the initial model in a child process that imports MindSpore
    seconds = 60.0 if plan.config is None else 240.0
    return Role("server_0", command, plan.http_server_address, listen_flag=flag, ready_seconds=seconds)


def evaluator_role(plan: ServerPlan) -> Role:
    """Return the evaluator."""
    command = [sys.executable, "-m", "cross_silo.evaluation.evaluator"]
    command += ["--yaml_config", plan.yaml_config, "--config", str(plan.config)]
    command += ["--checkpoint_dir", str(plan.checkpoint_dir), "--run_dir", str(plan.run_dir)]
    return Role("evaluator", command, plan.http_server_address, ready_seconds=240.0)


def _shard_server(plan: ServerPlan, index: int, address: str) -> Role:
    flag = "--http_server_address"
    command = [sys.executable, "-m", "cross_silo.aggregation.shard_server", "--yaml_config", plan.yaml_config]
    command += ["--index", str(index), flag, address, "--first_server_address", plan.http_server_address]
    command += ["--run_dir", str(plan.run_dir)]
    return Role(f"server_{index}", command, address, listen_flag=flag)
