"""The roles of a MistNet job's server side: the control plane, and the process that trains."""

from __future__ import annotations

import sys
from typing import List

from cross_silo.config.auth import SERVER
from cross_silo.config.federated import FederatedConfig, require_protected
from cross_silo.config.model import load_model
from cross_silo.engines import ServerPlan
from cross_silo.engines.native import check_checkpoint_dir, check_model, evaluates
from cross_silo.errors import UserError
from cross_silo.launch.arguments import check_address
from cross_silo.launch.role import Role
from cross_silo.mistnet.cut_detector import legal_cut
from cross_silo.mistnet.trainer_files import ROLE
from cross_silo.mistnet.trainer_files import SERVER as SERVER_ROLE
from cross_silo.protocol.access import Access

SERVER_SECONDS = 240.0
"""It may make the initial model first, and calibrate thresholds, in child processes that import MindSpore."""


def mistnet_roles(plan: ServerPlan, config: FederatedConfig) -> List[Role]:
    """Return the server and the feature trainer, checked. Raises UserError for what cannot work."""
    if plan.count != 1:
        raise UserError(f"--local_server_num is {plan.count}, expected 1 with algorithm mistnet")
    if plan.config is None:
        raise UserError("--config is missing: algorithm mistnet trains the model of a model YAML")
    flag = "--http_server_address"
    check_address(plan.http_server_address, flag, config)
    require_protected(plan.tcp_server_ip, "--tcp_server_ip", config)
    Access(config, SERVER, ())
    check_model(plan)
    legal_cut(load_model(plan.config).detector_class, config.mistnet.cut_layer)
    evaluates(plan, config)
    check_checkpoint_dir(plan)
    shared = ["--yaml_config", plan.yaml_config, "--config", plan.config]
    shared += ["--checkpoint_dir", str(plan.checkpoint_dir), "--run_dir", str(plan.run_dir)]
    serve = [sys.executable, "-m", "cross_silo.mistnet.server", *shared, flag, plan.http_server_address]
    serve += ["--tcp_server_ip", plan.tcp_server_ip]
    if plan.pre_trained:
        serve += ["--pre_trained", plan.pre_trained]
    train = [sys.executable, "-m", "cross_silo.mistnet.feature_trainer", *shared]
    address = plan.http_server_address
    return [
        Role(SERVER_ROLE, serve, address, listen_flag=flag, ready_seconds=SERVER_SECONDS),
        Role(ROLE, train, address),
    ]
