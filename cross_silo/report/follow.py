"""Tells of a running job's rounds and evaluations as they come, from its run directory alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from cross_silo.errors import UserError
from cross_silo.launch.proc import is_alive
from cross_silo.launch.record import read_json
from cross_silo.launch.role import PROCESS_FILE
from cross_silo.report.show import number
from cross_silo.report.summary import FILE, read_summary

WRITERS = ("server_*", "evaluator")
"""Roles that write the summary."""


def follow(
    run_dir: Path, tell: Callable[[str], None], sleep: Callable[[float], None] = time.sleep, poll_seconds: float = 1.0
) -> None:
    """Return once no process is left that writes the job's summary.

    Args:
        tell: gets a line for each attempt at a round and each evaluation.

    Raises:
        UserError: no such process runs, and none has left a summary.
    """
    told: Set[Tuple[Any, ...]] = set()
    while True:
        alive = any_writer(run_dir)  # before the summary is read: what it writes last is not missed
        if not alive and not (run_dir / FILE).exists():
            raise UserError(f"--run_dir {run_dir}: no server of a job runs there, and it has no {FILE}")
        summary = read_summary(run_dir) if (run_dir / FILE).exists() else {"rounds": [], "evaluations": {}}
        for key, line in _events(summary):
            if key not in told:
                told.add(key)
                tell(line)
        if not alive:
            return
        sleep(poll_seconds)


def any_writer(run_dir: Path) -> bool:
    """Tell whether a server or evaluator started in ``run_dir`` lives on this machine."""
    files = [path for role in WRITERS for path in run_dir.glob(f"{role}/{PROCESS_FILE}")]
    records = [record for record in map(read_json, files) if record is not None]
    return any(is_alive(record["pid"], record["start_time"]) for record in records)


def _events(summary: Dict[str, Any]) -> Iterator[Tuple[Tuple[Any, ...], str]]:
    """Yield what the summary says has happened: a key that stays the same, and a line."""
    for record in summary["rounds"]:
        key = ("round", record["round"], record["attempt"], record["ended"])
        if not record["good"]:
            yield key, record["reason"]
            continue
        losses: List[str] = [f"{silo} {number(loss)}" for silo, loss in record["losses"].items()]
        yield key, f"round {record['round']} good, {record['seconds']['round']:.1f} s; mean loss: {', '.join(losses)}"
    for round, metrics in summary["evaluations"].items():
        line = f"model of round {round}: AP50 {number(metrics['AP50'])}, AP {number(metrics['AP'])}"
        yield ("evaluation", round, metrics["AP50"]), line
    for round, silos in summary.get("silo_evaluations", {}).items():
        for silo, metrics in silos.items():
            line = f"model of round {round} on {silo}'s own images: AP50 {number(metrics['AP50'])}"
            yield ("silo evaluation", round, silo, metrics["AP50"]), line
