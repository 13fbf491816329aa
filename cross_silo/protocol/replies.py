"""What the aggregation client's calls return and raise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union

import numpy as np

from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.connection import Reply
from cross_silo.protocol.schema import DISABLED


class ServerUnreachable(UserError):  # noqa: N818
    """No server answers."""


class SiloTaken(UserError):  # noqa: N818
    """Another live worker holds the silo."""


class LeaseLost(UserError):  # noqa: N818
    """The silo is another worker's now."""


@dataclass(frozen=True)
class JobInfo:
    """What the server says of its job."""

    fl_name: str = ""
    instance: str = ""
    engine: str = ""
    state: str = "running"
    reason: str = ""
    iteration: int = 0
    attempt: int = 0
    phase: str = ""
    good_rounds: int = 0
    fl_iteration_num: int = 0
    fingerprint: str = ""
    pre_trained_sha256: str = ""
    initial_sha256: str = ""
    classes: List[str] = field(default_factory=list)
    model_bytes: int = 0
    tensors: int = 0
    lease: float = 15.0
    silos: Union[int, List[str]] = 0
    client: Dict[str, Any] = field(default_factory=dict)
    participants: List[Dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class HeartbeatReply:
    """Where the job stands."""

    state: str
    iteration: int
    attempt: int
    seconds: float
    """The lease that was renewed."""
    instance: str = ""
    """The job's; empty where the server does not say."""


@dataclass(frozen=True)
class Ticket:
    """Whether this worker takes part in a round."""

    iteration: int
    attempt: int
    joined: bool
    reason: str
    state: str
    instance: str = ""
    """The job's instance; another one than before means that the job began anew."""
    waits: bool = False
    """Not joined, but only until a later round has a place."""


@dataclass(frozen=True)
class PushReply:
    """Whether an update is in the round's sum."""

    accepted: bool
    reason: str
    state: str


@dataclass(frozen=True)
class ModelReply:
    """A model, or why there is none."""

    verdict: str
    """good, failed or pending."""
    reason: str
    round: int
    """The good round that the model is of; -1 without one."""
    weights: Optional[Dict[str, np.ndarray]]
    """Flat float32 views of the receive buffer."""
    state: str


def text_of(reply: Reply) -> Optional[str]:
    """Return a plain-text reply's text; None where the reply is a message."""
    if reply.status == 200 and reply.content_type.startswith("text/html"):
        return str(bytes(reply.body), "utf-8", "replace")
    return None


def state_of(reply: Reply) -> str:
    """Return the job's state; of an engine that sends none, what its text says."""
    known = reply.headers.get(headers.STATE)
    return known or ("finished" if text_of(reply) == DISABLED else "running")
