"""Tells of a job's rounds as they end, until its server has ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, List, Mapping, Set, Tuple

from cross_silo.errors import UserError
from cross_silo.launch.proc import is_alive
from cross_silo.launch.record import read_json
from cross_silo.launch.role import PROCESS_FILE
from cross_silo.report.show import number
from cross_silo.report.summary import FILE, read_summary

SERVER = "server_0"


def follow(run_dir: Path, tell: Callable[[str], None], poll_seconds: float = 1.0) -> None:
    """Call ``tell`` with a line for each round that ends and each model that is measured; return at the job's end.

    Raises:
        UserError: no server of the job was started in ``run_dir``, or it ended before the job did.
    """
    told: Set[Tuple[Any, ...]] = set()
    while True:
        process = read_json(run_dir / SERVER / PROCESS_FILE)
        if process is None:
            raise UserError(f"{run_dir}: no {SERVER}/{PROCESS_FILE}; expected the run directory of a started job")
        alive = is_alive(process["pid"], process["start_time"])  # before reading, so that nothing is missed
        summary = read_summary(run_dir) if (run_dir / FILE).exists() else {"rounds": [], "evaluations": {}}
        for key, line in lines(summary):
            if key not in told:
                told.add(key)
                tell(line)
        if not alive:
            break
        time.sleep(poll_seconds)
    if summary.get("state") not in ("finished", "failed", "stopped"):
        raise UserError(f"{SERVER} (pid {process['pid']}) ended before its job; its log: {run_dir / process['log']}")


def lines(summary: Mapping[str, Any]) -> List[Tuple[Tuple[Any, ...], str]]:
    """Return (key, text) of everything that a summary tells so far; a key's text never changes."""
    found: List[Tuple[Tuple[Any, ...], str]] = []
    for record in summary["rounds"]:
        head = f"round {record['round']}" + (f", attempt {record['attempt']}" if record["attempt"] > 1 else "")
        if record["good"]:
            losses = ", ".join(f"{silo} {number(loss)}" for silo, loss in sorted(record["losses"].items()))
            text = f"{head}: good in {record['seconds']['round']:.1f} s; mean loss {losses}"
        else:
            text = f"{head}: failed: {record['reason']}"
        found.append((("round", record["ended"]), text))
    for evaluated, metrics in sorted(summary["evaluations"].items(), key=lambda item: int(item[0])):
        text = f"model of round {evaluated}: AP50 {number(metrics['AP50'])}, AP {number(metrics['AP'])}"
        found.append((("model", evaluated), text))
    return found
