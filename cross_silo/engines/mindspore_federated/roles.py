"""What the launching scripts start for this engine, and what its workers speak with."""

from __future__ import annotations

import sys
from typing import List

from cross_silo.config.federated import FederatedConfig, split_address
from cross_silo.engines import SchedulerPlan, ServerPlan
from cross_silo.engines.mindspore_federated import guards
from cross_silo.engines.mindspore_federated.client import WheelClient
from cross_silo.engines.mindspore_federated.environment import added_environment, find_python
from cross_silo.engines.native import check_checkpoint_dir, check_model, evaluates, evaluator_role
from cross_silo.errors import UserError
from cross_silo.launch.arguments import check_address
from cross_silo.launch.role import Role

__all__ = ["client_class", "scheduler_roles", "server_roles"]

client_class = WheelClient
PACKAGE = "cross_silo.engines.mindspore_federated"


def scheduler_roles(plan: SchedulerPlan, config: FederatedConfig) -> List[Role]:
    """Return our scheduler, whose child at the next port is the wheel's. Raises UserError for what cannot work."""
    guards.check_config(config, plan.yaml_config)
    flag = "--scheduler_manage_address"
    guards.check_address(plan.address, flag)
    check_address(plan.address, flag, config)
    find_python()
    (wheel,) = next_addresses(plan.address, 1, flag)
    command = [sys.executable, "-m", f"{PACKAGE}.scheduler", "--yaml_config", plan.yaml_config]
    command += [flag, plan.address, "--wheel_address", wheel, "--run_dir", str(plan.run_dir)]
    return [Role("scheduler", command, plan.address, listen_flag=flag, ready_seconds=30.0)]


def server_roles(plan: ServerPlan, config: FederatedConfig) -> List[Role]:
    """Return front, servers, and the evaluator where the job evaluates. Raises UserError for what cannot work."""
    flag = "--http_server_address"
    guards.check_config(config, plan.yaml_config)
    guards.check_address(plan.http_server_address, flag)
    guards.check_address(f"{plan.tcp_server_ip}:1", "--tcp_server_ip")
    check_address(plan.http_server_address, flag, config)
    check_address(f"{plan.tcp_server_ip}:1", "--tcp_server_ip", config)
    check_model(plan)
    measured = evaluates(plan, config)
    check_checkpoint_dir(plan)
    python = find_python()
    addresses = next_addresses(plan.http_server_address, plan.count, flag)
    print(guards.NO_AUTHENTICATION, file=sys.stderr)
    roles = [_front(plan, addresses)]
    for index, address in enumerate(addresses):
        command = [python, "-m", f"{PACKAGE}.server", "--yaml_config", plan.yaml_config]
        command += ["--server_index", str(index), flag, address, "--tcp_server_ip", plan.tcp_server_ip]
        command += ["--checkpoint_dir", str(plan.checkpoint_dir), "--run_dir", str(plan.run_dir)]
        roles.append(Role(f"server_{index}", command, address, f"a port after {flag}", environment=added_environment()))
    return [*roles, evaluator_role(plan)] if measured else roles


def next_addresses(address: str, count: int, what: str) -> List[str]:
    """Return the ``count`` addresses whose ports follow that of ``address``. Raises UserError naming ``what``."""
    host, port = split_address(address, what)
    if port + count > 65535:
        raise UserError(f"{what} is {address}: the {count} ports after it do not exist")
    return [f"{host}:{port + 1 + index}" for index in range(count)]


def _front(plan: ServerPlan, addresses: List[str]) -> Role:
    flag = "--http_server_address"
    command = [sys.executable, "-m", f"{PACKAGE}.front", "--yaml_config", plan.yaml_config]
    command += [flag, plan.http_server_address]
    for address in addresses:
        command += ["--server_address", address]
    command += ["--checkpoint_dir", str(plan.checkpoint_dir), "--run_dir", str(plan.run_dir)]
    if plan.config is not None:
        command += ["--config", plan.config]
    if plan.pre_trained:
        command += ["--pre_trained", plan.pre_trained]
    # with a model YAML it may first make the initial model in a child process that imports MindSpore
    seconds = 60.0 if plan.config is None else 240.0
    return Role("server_front", command, plan.http_server_address, listen_flag=flag, ready_seconds=seconds)
