"""What is to be checked: the role as its launch script would start it."""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from cross_silo.checkpoint import list_checkpoints
from cross_silo.config.auth import SCHEDULER, SERVER, SILO
from cross_silo.config.federated import FederatedConfig, split_address
from cross_silo.errors import UserError
from cross_silo.launch.workers import silos_of
from cross_silo.protocol.access import credentials
from cross_silo.protocol.connection import TransportError, exchange

WORKER = "worker"
ROLES = (SCHEDULER, SERVER, WORKER)
ASK_SECONDS = 0.8
"""For the server's answer: the check must not hold up a start."""


@dataclass(frozen=True)
class Answer:
    """What the server said when it was asked for the job."""

    job: Dict[str, Any] = field(default_factory=dict)
    """Empty: nothing."""
    skew: Optional[float] = None
    """Seconds by which this machine's clock is ahead of the server's."""
    problem: str = ""
    """Why it is not to be asked."""
    answers: bool = True
    """Whether anybody answers there."""


@dataclass(frozen=True)
class Plan:
    """A role with its settings."""

    role: str
    """scheduler, server or worker."""
    config: FederatedConfig
    address: str
    """host:port: of a worker, the server's; else its own."""
    run_dir: Path
    model_yaml: str = ""
    pre_trained: str = ""
    checkpoint_dir: Optional[Path] = None
    dataset_path: Optional[Path] = None
    count: int = 1
    """Workers."""
    first: int = 0
    """Index of the first worker."""
    silo: str = ""
    """Of a single worker; empty: silo_{index}."""
    servers: int = 1
    """Of the job."""
    tcp_server_ip: str = "127.0.0.1"
    """Address at which they reach each other."""

    @property
    def silos(self) -> List[str]:
        """The workers' silos."""
        return silos_of(self.silo, self.first, self.count)

    @property
    def flag(self) -> str:
        """The one that gives the address."""
        return "--scheduler_manage_address" if self.role == SCHEDULER else "--http_server_address"

    @cached_property
    def answer(self) -> Answer:
        """The server's, asked once, as the first silo."""
        host, port = split_address(self.address, self.flag)
        try:
            shown = credentials(self.config, self.silos[0], SILO)
            reply = exchange(host, port, "/job", None, shown.headers(), ASK_SECONDS, None, shown.context)
            content = json.loads(bytes(reply.body))
        except TransportError as error:
            return Answer(problem=str(error), answers=False)
        except (UserError, ValueError) as error:
            return Answer(problem=str(error))
        date = email.utils.parsedate_tz(reply.headers.get("Date") or "")
        skew = None if date is None else time.time() - email.utils.mktime_tz(date)
        if reply.status != 200 or not isinstance(content, dict):
            told = content.get("error") if isinstance(content, dict) else None
            return Answer(problem=str(told or f"HTTP {reply.status}"), skew=skew)
        return Answer(content, skew)

    @cached_property
    def model_bytes(self) -> Tuple[int, str]:
        """Bytes of the model and where they were read; 0 where that is not known yet."""
        if self.role == WORKER and self.answer.job.get("model_bytes"):
            return int(self.answer.job["model_bytes"]), "the server's"
        if self.checkpoint_dir is not None:
            found = list_checkpoints(self.checkpoint_dir, self.config.fl_name)
            if found:
                return found[-1][1].stat().st_size, found[-1][1].name
        if self.pre_trained and Path(self.pre_trained).is_file():
            return Path(self.pre_trained).stat().st_size, self.pre_trained
        return 0, "the model's size is not known before there is a checkpoint"
