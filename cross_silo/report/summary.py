"""``summary.json``: what a job was, what each round brought, for programs to read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock
from cross_silo.launch.record import write_json

if TYPE_CHECKING:
    from cross_silo.coordination import JobStore

FILE = "summary.json"
LOCK = ".summary.lock"
METRICS = ("AP", "AP50", "AP75")
"""What is kept of each round's model; all that a silo tells of its own validation set."""
_WHOLE = ("fl_iteration_num", "good_rounds", "iteration", "attempt", "model_bytes")
_NUMBERS = {**dict.fromkeys(_WHOLE, int), "started": float}
_JSON = ("settings", "versions", "stop", "best", "refused_updates", "features")


def write_summary(run_dir: Path, store: "JobStore") -> None:
    """Write ``summary.json`` of a job into its run directory, from what the store holds of it.

    Server and evaluator both do, one after the other. Rounds of the same job instance that the file has and the
    store lost (Redis was restarted) stay. Without a record of the job nothing is written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with file_lock(run_dir / LOCK):
        job = store.job()
        if job is None:
            return
        earlier = earlier_summary(run_dir, job.get("instance", ""))
        evaluations = {int(round): metrics for round, metrics in earlier.get("evaluations", {}).items()}
        evaluations.update(store.evaluations())
        by_silo = {int(round): silos for round, silos in earlier.get("silo_evaluations", {}).items()}
        for round, silos in store.silo_evaluations().items():
            by_silo[round] = {**by_silo.get(round, {}), **silos}
        records = {record["ended"]: record for record in [*earlier.get("rounds", []), *store.rounds()]}
        ordered = [records[ended] for ended in sorted(records)]
        write_json(run_dir / FILE, finite(summarize(job, ordered, evaluations, by_silo)))


def summarize(
    job: Mapping[str, str],
    records: List[Mapping[str, Any]],
    evaluations: Mapping[int, Mapping[str, Any]],
    by_silo: Optional[Mapping[int, Mapping[str, Mapping[str, float]]]] = None,
) -> Dict[str, Any]:
    """Return a job's summary.

    Args:
        job: its fields, as the store keeps them.
        records: attempts at rounds, good and failed, oldest first.
        evaluations: metrics of the global model by round; 0 is the initial model.
        by_silo: its metrics by round and silo, on the silos' own validation sets.
    """
    summary: Dict[str, Any] = {name: _NUMBERS[name](text) if name in _NUMBERS else text for name, text in job.items()}
    summary.update({name: json.loads(job[name]) for name in _JSON if name in job})
    summary["rounds"] = [_round(record, evaluations, by_silo or {}) for record in records]
    good = [record["round"] for record in records if record["good"]]
    summary["good_rounds"] = max(len(good), summary.get("good_rounds", 0))  # records may lag, or be lost with Redis
    summary["failed_attempts"] = len(records) - len(good)
    summary["bytes_up"] = sum(record["bytes_up"] for record in records)
    summary["bytes_down"] = sum(record["bytes_down"] for record in records)
    summary["evaluations"] = {str(round): dict(evaluations[round]) for round in sorted(evaluations)}
    summary["silo_evaluations"] = {str(round): dict((by_silo or {})[round]) for round in sorted(by_silo or {})}
    measured = [evaluations[round]["AP50"] for round in good if round in evaluations]
    summary["final_AP50"] = measured[-1] if measured and good[-1] in evaluations else None
    summary["best_AP50"] = max(measured, default=None)
    return summary


def _round(
    record: Mapping[str, Any],
    evaluations: Mapping[int, Mapping[str, Any]],
    by_silo: Mapping[int, Mapping[str, Mapping[str, float]]],
) -> Dict[str, Any]:
    """Return a record with its losses and the metrics of the model that it made."""
    metrics = evaluations.get(record["round"], {}) if record["good"] else {}
    silos = by_silo.get(record["round"], {}) if record["good"] else {}
    losses = {entry["silo"]: entry.get("loss") for entry in record["participants"]}
    return {
        **record,
        "losses": losses,
        "mean_loss": mean_loss(record["participants"]),
        **{name: metrics.get(name) for name in METRICS},
        "silo_AP50": {silo: values["AP50"] for silo, values in silos.items()},
    }


def mean_loss(participants: List[Mapping[str, Any]]) -> Optional[float]:
    """Return the mean loss over the silos that told theirs, weighted by samples; None where none did."""
    told = [entry for entry in participants if entry.get("loss") is not None and entry["samples"] > 0]
    samples = sum(entry["samples"] for entry in told)
    return sum(entry["loss"] * entry["samples"] for entry in told) / samples if told else None


def earlier_summary(run_dir: Path, instance: str) -> Dict[str, Any]:
    """Return the summary in a run directory if it is of this job instance; an empty one otherwise."""
    try:
        earlier = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return earlier if isinstance(earlier, dict) and earlier.get("instance") == instance else {}


def finite(value: Any) -> Any:
    """Return ``value`` with null for each number that JSON does not know: nan and the infinities."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_summary(run_dir: Path) -> Dict[str, Any]:
    """Return the summary in a run directory. Raises UserError where there is none."""
    path = run_dir / FILE
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected the run directory of a job that made a round") from None
    except ValueError:
        raise UserError(f"{path}: not valid JSON") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("rounds"), list):
        raise UserError(f"{path}: has no rounds; expected a job's summary")
    return summary
