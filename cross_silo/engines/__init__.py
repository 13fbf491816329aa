"""How each engine's scheduler and servers are started. An engine is the package below this one with its name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Protocol, Type

from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError
from cross_silo.launch.role import Role

if TYPE_CHECKING:
    from cross_silo.protocol.client import AggregationClient


@dataclass(frozen=True)
class SchedulerPlan:
    """What the command line says of the scheduler."""

    yaml_config: str
    address: str
    run_dir: Path


@dataclass(frozen=True)
class ServerPlan:
    """What the command line says of the servers."""

    yaml_config: str
    http_server_address: str
    """host:port of the first server; the next ones' ports follow."""
    tcp_server_ip: str
    """Address at which servers reach each other."""
    checkpoint_dir: Path
    run_dir: Path
    count: int = 1
    """Servers on this machine."""
    config: Optional[str] = None
    """Model YAML: makes the initial model where there is none, and evaluates."""
    pre_trained: str = ""


class Engine(Protocol):
    """What an engine's package offers."""

    client_class: "Type[AggregationClient]"
    """What its workers speak with."""

    def scheduler_roles(self, plan: SchedulerPlan, config: FederatedConfig) -> List[Role]:
        """Return the scheduler and what belongs to it, checked. Raises UserError."""

    def server_roles(self, plan: ServerPlan, config: FederatedConfig) -> List[Role]:
        """Return the servers and what belongs to them, in the order in which they start, checked. Raises UserError."""


def find_engine(config: FederatedConfig, yaml_config: str, wanted: Optional[str] = None) -> Engine:
    """Return the job's engine.

    Args:
        wanted: what the command line says; None leaves it to the YAML.

    Raises:
        UserError: the command line contradicts the YAML, which every role of the job reads.
    """
    if wanted not in (None, config.engine):
        raise UserError(f"--engine is {wanted!r}, but engine is {config.engine!r} in {yaml_config}; expected the same")
    return importlib.import_module(f"{__name__}.{config.engine}")  # type: ignore[return-value]
