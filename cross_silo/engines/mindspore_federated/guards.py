"""What the wheel's engine does wrong or not at all is refused before anything starts, with the reason."""

from __future__ import annotations

import ipaddress
from typing import Iterable, List, Tuple

from cross_silo.config.aggregation import Aggregation
from cross_silo.config.federated import FederatedConfig, split_address
from cross_silo.config.participation import AggregationTrigger
from cross_silo.coordination.client import PASSWORD, password
from cross_silo.errors import UserError

ENGINE = "engine mindspore_federated"
NO_AUTHENTICATION = f"note: {ENGINE} has no authentication: whoever reaches its servers can change the model"
SHORTEST_WINDOW = 1000
"""Milliseconds; the engine counts whole seconds, and a window of none fails every iteration."""


def check_config(config: FederatedConfig, where: str) -> None:
    """Refuse settings that the engine would ignore or break on. Raises UserError naming the key.

    Args:
        where: the YAML.
    """
    for key, found, expected, why in _wrong(config):
        raise UserError(f"{where}: {key} is {found!r}, expected {expected!r} with {ENGINE}: {why}")
    require_ipv4(config.distributed_cache.address, f"{where}: distributed_cache.address")
    if password():
        raise UserError(f"{PASSWORD} is set, but {ENGINE} cannot give Redis a password; expected it unset")


def _wrong(config: FederatedConfig) -> Iterable[Tuple[str, object, object, str]]:
    """Yield (key, what it is, what it must be, why)."""
    rounds, everyone = config.round, "with fewer updates than workers it adds late ones to a finished average"
    tests: List[Tuple[str, object, object, str]] = [
        ("round.update_model_ratio", rounds.update_model_ratio, 1.0, everyone),
        ("round.min_clients", rounds.min_clients, 0, everyone),
        ("round.select_num_clients", rounds.select_num_clients, 0, everyone),
        ("aggregation_trigger", config.aggregation_trigger, AggregationTrigger(), everyone),
        (
            "silos",
            config.num_silos,
            rounds.start_fl_job_threshold,
            "it admits more workers than round.start_fl_job_threshold when they come at once",
        ),
        ("auth.mode", config.auth.mode, "none", "it has no authentication"),
        ("enable_ssl", config.enable_ssl, False, "its TLS does not tell who asks"),
        ("compat", config.compat, "", "its own worker speaks with its own servers as it is"),
        ("algorithm", config.algorithm, "fedavg", "it has no other here"),
    ]
    plain = Aggregation()
    for key in plain.__dataclass_fields__:
        tests.append((f"aggregation.{key}", getattr(config.aggregation, key), getattr(plain, key), "it averages only"))
    cache = config.distributed_cache
    for key in ("user", "cacert_filename", "cert_filename"):
        tests.append((f"distributed_cache.{key}", getattr(cache, key), "", "it connects to Redis without it"))
    for key in ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window"):
        window = getattr(rounds, key)
        if window < SHORTEST_WINDOW:
            yield f"round.{key}", window, SHORTEST_WINDOW, "it counts whole seconds"
    yield from (test for test in tests if test[1] != test[2])


def check_address(address: str, what: str) -> None:
    """Refuse an address that the engine cannot listen at. Raises UserError naming ``what``."""
    host = require_ipv4(address, what)
    if host == "0.0.0.0":
        raise UserError(f"{what} is {address!r}, expected one address of this machine: {ENGINE} refuses 0.0.0.0")


def require_ipv4(address: str, what: str) -> str:
    """Return the host of ``address``. Raises UserError naming ``what`` where it is no literal IPv4 address."""
    host, _ = split_address(address, what)
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise UserError(
            f"{what} is {address!r}, expected a literal IPv4 address and port, as 127.0.0.1:6668: {ENGINE} looks up "
            "no names"
        ) from None


def check_names(names: Iterable[str]) -> None:
    """Refuse names of tensors that mean something else to the engine. Raises UserError."""
    for name in names:
        if name.startswith("control.") or "min_val" in name or "max_val" in name:
            raise UserError(f"tensor {name!r}: {ENGINE} takes names with control., min_val or max_val for its own")
