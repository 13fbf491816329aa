"""What is known of a Sedna job's rounds: by its Redis while that answers, by its summary afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import redis

from cross_silo.config.federated import DistributedCache
from cross_silo.coordination import JobStore, connect
from cross_silo.errors import UserError
from cross_silo.launch.record import read_json
from cross_silo.report.status import read_status
from cross_silo.report.summary import FILE, METRICS
from cross_silo.sedna.plan import JobPlan


@dataclass(frozen=True)
class Progress:
    """What is known of a job's rounds, from its live store or from what it left behind."""

    state: str = ""
    """running, finished, failed, stopped, ...; empty: no round has begun."""
    reason: str = ""
    started: Optional[float] = None
    ended: Optional[float] = None
    """Unix time of the end, or of the newest round."""
    round: int = 0
    """Good rounds."""
    rounds: int = 0
    failed_rounds: int = 0
    updates: int = 0
    metrics: Tuple[Tuple[str, float], ...] = ()
    silos: Tuple[Tuple[str, Mapping[str, Any]], ...] = ()
    """By name: what each told last."""


def job_store(plan: JobPlan) -> Optional[JobStore]:
    """Return the job's store; None where no Redis answers."""
    address = plan.aggregator.federated.get("distributed_cache", {}).get("address", DistributedCache().address)
    try:
        return JobStore(connect(DistributedCache(address=address), start_embedded=False), plan.fl_name)
    except (UserError, redis.RedisError):
        return None


def live_progress(store: JobStore, fl_name: str, now: float) -> Optional[Progress]:
    """Return what the store holds; None where it holds nothing of the job, or does not answer."""
    try:
        status, records = read_status(store, fl_name, now), store.rounds()
    except (UserError, redis.RedisError):
        return None
    measured = status["evaluations"][-1] if status["evaluations"] else {}
    metrics = [(name, measured[name]) for name in ("AP50", "AP") if measured.get(name) is not None]
    return Progress(
        state=status["state"],
        reason=status["reason"],
        started=status["started"],
        ended=records[-1]["ended"] if records else None,
        round=status["good_rounds"],
        rounds=status["rounds"],
        failed_rounds=status["failed_rounds"],
        updates=status["updates"],
        metrics=tuple(metrics),
        silos=tuple((entry["silo"], entry) for entry in status["participants"]),
    )


def left_progress(run_dir: Path) -> Progress:
    """Return what the job's summary holds; nothing where there is none yet."""
    summary = read_json(run_dir / FILE) or {}
    records = summary.get("rounds", [])
    good = [record for record in records if record["good"]]
    silos: Dict[str, Mapping[str, Any]] = {}
    for record in good:
        for entry in record["participants"]:
            silos[entry["silo"]] = {**entry, "iteration": record["round"]}
    last = good[-1] if good else {}
    return Progress(
        state=summary.get("state", ""),
        reason=summary.get("reason", ""),
        started=summary.get("started"),
        ended=records[-1]["ended"] if records else None,
        round=int(summary.get("good_rounds", 0)),
        rounds=int(summary.get("fl_iteration_num", 0)),
        failed_rounds=int(summary.get("failed_attempts", 0)),
        updates=sum(len(record["participants"]) for record in good),
        metrics=tuple((name, last[name]) for name in METRICS if last.get(name) is not None),
        silos=tuple(silos.items()),
    )
