"""What server and feature trainer tell each other: two small files, each with one writer, in the run directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from cross_silo.launch.proc import is_alive
from cross_silo.launch.record import read_json, write_json

ROLE = "feature_trainer"
SERVER = "server_0"
PROGRESS, STANDING = "progress.json", "standing.json"


@dataclass
class Progress:
    """What the trainer tells."""

    instance: str = ""
    """Of the job that it trains for."""
    pid: int = 0
    start_time: int = 0
    phase: str = "waiting"
    epoch: int = 0
    """In progress."""
    step: int = 0
    """Steps taken."""
    loss: Optional[float] = None
    records: List[Dict[str, Any]] = field(default_factory=list)
    """One for each epoch that ended: epoch, loss, steps, seconds, checkpoint_seconds, checkpoint, ended."""
    evaluations: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    """Metrics by epoch; 0: the model that training begins with."""
    best: Optional[Dict[str, Any]] = None
    outcome: str = ""
    """done or failed; empty: it is not at its end."""
    reason: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether its process lives."""
        return self.pid > 0 and is_alive(self.pid, self.start_time)

    def write(self, run_dir: Path) -> None:
        """Tell it."""
        directory = run_dir / ROLE
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / PROGRESS, asdict(self))


def read_progress(run_dir: Path) -> Optional[Progress]:
    """Return what the trainer told last; None where there is nothing."""
    content = read_json(run_dir / ROLE / PROGRESS)
    return None if content is None else Progress(**content)


@dataclass(frozen=True)
class Orders:
    """What the server tells the trainer."""

    instance: str
    state: str
    """Of the job."""
    features: str = ""
    """Directory with a directory for each silo, once training may begin."""
    silos: Dict[str, str] = field(default_factory=dict)
    """From a silo to its directory's name."""
    bits: Dict[str, Any] = field(default_factory=dict)
    """What the checkpoints say of the bits at the cut."""

    def write(self, run_dir: Path) -> None:
        """Tell it."""
        directory = run_dir / SERVER
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / STANDING, asdict(self))


def read_orders(run_dir: Path) -> Optional[Orders]:
    """Return what the server told last; None where there is nothing."""
    content = read_json(run_dir / SERVER / STANDING)
    return None if content is None else Orders(**content)
