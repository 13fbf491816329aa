"""What a Sedna container is told by its environment: the job's hyper-parameters, and what the global manager injects.

Names count in any case; an empty value counts as none, as in Sedna's library.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from cross_silo.errors import UserError

WS, S3 = "ws", "s3"
DEFAULT_PORT = 7363
"""Sedna's port of the aggregator."""
SECRETS = ("access_key_id", "secret_access_key")
"""Settings that are never shown."""

Problem = Tuple[str, str]
"""A variable's name as it was written, and the reason why it is refused."""


@dataclass(frozen=True)
class Settings:
    """The variables that mean something here, typed; each is named as its variable, in lower case."""

    aggregation_algorithm: str = ""
    """In lower case: fedavg, mistnet; empty: not said."""
    exit_round: Optional[int] = None
    epochs: Optional[int] = None
    batch_size: Optional[int] = None
    learning_rate: Optional[float] = None
    cut_layer: Optional[int] = None
    epsilon: Optional[float] = None
    model_config: str = ""
    """Model YAML of the detector: a path, or the name of one in configs/."""
    num_classes: Optional[int] = None
    class_names: str = ""
    """Separated by commas; empty: not said."""

    namespace: str = ""
    job_name: str = ""
    worker_name: str = ""
    agg_bind_ip: str = ""
    agg_bind_port: Optional[int] = None
    agg_ip: str = ""
    agg_port: Optional[int] = None
    participants_count: Optional[int] = None
    transmitter: str = ""
    """ws or s3; empty: ws."""
    agg_data_path: str = ""
    model_url: str = ""
    pretrained_model_url: str = ""
    data_path_prefix: str = ""
    train_dataset_url: str = ""
    model_name: str = ""
    dataset_name: str = ""
    lc_server: str = ""
    connect_timeout: Optional[float] = None
    """Seconds that a trainer waits for the aggregator."""
    s3_endpoint_url: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables. Raises UserError naming all that cannot be read."""
        settings, problems = read_settings(environ)
        if problems:
            raise UserError("; ".join(f"environment variable {name}: {reason}" for name, reason in problems))
        return settings

    @property
    def names(self) -> Tuple[str, ...]:
        """Names of the object classes; empty: not said."""
        return tuple(name.strip() for name in self.class_names.split(",") if name.strip())

    @property
    def rounds(self) -> int:
        """Rounds to train: one where exit_round is not set, as in Sedna's library."""
        return self.exit_round or 1

    @property
    def bind_address(self) -> str:
        """host:port at which the aggregator listens; loopback where AGG_BIND_IP is not set."""
        return f"{self.agg_bind_ip or '127.0.0.1'}:{self.agg_bind_port or DEFAULT_PORT}"

    @property
    def server_address(self) -> str:
        """host:port at which a trainer finds the aggregator."""
        return f"{self.agg_ip or '127.0.0.1'}:{self.agg_port or DEFAULT_PORT}"


def job_name_here(name: str, namespace: str) -> str:
    """Return a job's name here: Sedna's, with the namespace before it unless that is the default one."""
    return name if namespace in ("", "default") else f"{namespace}.{name}"


def read_settings(environ: Mapping[str, str]) -> Tuple[Settings, List[Problem]]:
    """Return the settings in ``environ`` and what is wrong in it; a variable that is wrong counts as not set."""
    spellings: Dict[str, List[str]] = {}
    for name in environ:
        if name.lower() in PARSERS and environ[name] != "":
            spellings.setdefault(name.lower(), []).append(name)
    values: Dict[str, Any] = {}
    problems: List[Problem] = []
    for field_name, names in spellings.items():
        first, *others = names
        different = [name for name in others if environ[name] != environ[first]]
        if different:
            shown = " and ".join(
                name if field_name in SECRETS else f"{name}={environ[name]!r}" for name in [first, *different]
            )
            problems.append((first, f"conflicts with another spelling: {shown}; expected one value"))
            continue
        try:
            values[field_name] = PARSERS[field_name](environ[first])
        except ValueError as error:
            problems.append((first, str(error)))
    return Settings(**values), problems


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]+", text) is None or not least <= int(text) <= most:
            above = f"at least {least}" if most == 2**31 - 1 else f"{least} to {most}"
            raise ValueError(f"found {text!r}, expected a whole number, {above}")
        return int(text)

    return parse


def _integer(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise ValueError(f"found {text!r}, expected a whole number")
    return int(text)


def _above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"found {text!r}, expected a number above 0") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"found {text!r}, expected a number above 0")
    return value


def _transmitter(text: str) -> str:
    if text.lower() not in (WS, S3):
        raise ValueError(f"found {text!r}, expected {WS} or {S3}")
    return text.lower()


def _parsers() -> Dict[str, Callable[[str], Any]]:
    positive, port = _whole(1), _whole(1, 65535)
    numbers: Dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(("exit_round", "epochs", "batch_size", "num_classes", "participants_count"), positive),
        **dict.fromkeys(("agg_bind_port", "agg_port"), port),
        **dict.fromkeys(("learning_rate", "epsilon", "connect_timeout"), _above_0),
        "cut_layer": _integer,
        "transmitter": _transmitter,
        "aggregation_algorithm": str.lower,
    }
    return {item.name: numbers.get(item.name, str) for item in dataclasses.fields(Settings)}


PARSERS: Dict[str, Callable[[str], Any]] = _parsers()
"""What reads each variable, by its name in lower case."""
