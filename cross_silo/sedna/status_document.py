"""A job's status as Sedna's FederatedLearningJob has it, and beside it what that leaves out: nodes, samples, rounds.

The ``status`` block has the fields of the CRD alone; ``crossSilo`` is ours.
"""

from __future__ import annotations

import calendar
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

import yaml

from cross_silo.coordination import JobStore
from cross_silo.launch import proc
from cross_silo.launch.record import read_json
from cross_silo.launch.role import PROCESS_FILE
from cross_silo.launch.table import table
from cross_silo.mistnet.collection import POOL
from cross_silo.mistnet.features import MANIFEST_NAME
from cross_silo.mistnet.offer import place_name
from cross_silo.mistnet.server import FEATURES
from cross_silo.sedna.algorithms import MISTNET
from cross_silo.sedna.job_progress import Progress, job_store, left_progress, live_progress
from cross_silo.sedna.plan import JobPlan, TrainerPlan

Document = Dict[str, Any]
PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
"""Phases of a job, and of its workers."""
SERVER = "server_0"
ENDED = {"finished": SUCCEEDED, "failed": FAILED, "stopped": FAILED}


def status_document(source: Union[Path, JobStore], plan: JobPlan, now: Optional[float] = None) -> Document:
    """Return the status of ``plan``'s job.

    Args:
        source: the run directory, of which the job's Redis is asked while it answers; or the job's store.
        now: Unix time.
    """
    now = time.time() if now is None else now
    run_dir = source if isinstance(source, Path) else Path(plan.run_dir)
    store = job_store(plan) if isinstance(source, Path) else source
    progress = (live_progress(store, plan.fl_name, now) if store is not None else None) or left_progress(run_dir)
    is_mistnet = plan.aggregator.algorithm == MISTNET
    silos, delivered = dict(progress.silos), _delivered(plan) if is_mistnet else {}
    trainers = []
    for trainer in plan.trainers:
        told = silos.get(trainer.silo, {})
        if is_mistnet:  # no rounds and no loss of its own
            samples = delivered.get(trainer.silo, told.get("samples"))
            told = {} if samples is None else {"samples": samples, "live": told.get("live")}
        alive = bool(told.get("live"))
        trainers.append((trainer, _phase(run_dir, f"worker_{trainer.index}", progress, alive, bool(told)), told))
    serves = progress.state in ("running", "disabled")
    server = _phase(run_dir, SERVER, progress, serves, bool(progress.state))
    phases = [server, *(phase for _, phase, _ in trainers)]
    phase = _job_phase(progress, phases)
    return {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "status": _status(phase, phases, progress),
        "crossSilo": {
            "state": progress.state or "not begun",
            "reason": progress.reason,
            "round": progress.round,
            "rounds": progress.rounds or int(plan.aggregator.federated.get("fl_iteration_num", 0)),
            "aggregations": int(_is_pooled(plan)) if is_mistnet else progress.round,
            "updates": len(delivered) if is_mistnet else progress.updates,
            "failedRounds": progress.failed_rounds,
            "metrics": dict(progress.metrics),
            "model": {"name": plan.model_name, "url": plan.aggregator.model_url},
            "nodes": [
                {"node": plan.aggregator.node, "role": "aggregation", "worker": SERVER, "phase": server},
                *(_node(*entry) for entry in trainers),
            ],
        },
    }


def status_yaml(document: Document) -> str:
    """Return the document as YAML."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def status_table(document: Document, now: Optional[float] = None) -> str:
    """Return the document for people: the job in one line, its nodes below."""
    status, ours = document["status"], document["crossSilo"]
    began = _seconds(status.get("startTime"))
    until = _seconds(status.get("completionTime")) or (time.time() if now is None else now)
    job = (
        document["metadata"]["name"],
        status["phase"],
        f"{ours['round']}/{ours['rounds']}",
        *(status[name] for name in ("active", "succeeded", "failed")),
        "-" if began is None else age(until - began),
    )
    lines = [table(("NAME", "STATUS", "ROUND", "ACTIVE", "SUCCEEDED", "FAILED", "AGE"), [job]), ""]
    rows = [
        [_cell(node.get(name)) for name in ("node", "role", "worker", "phase", "dataset", "samples", "round", "loss")]
        for node in ours["nodes"]
    ]
    lines.append(table(("NODE", "ROLE", "WORKER", "PHASE", "DATASET", "SAMPLES", "ROUND", "LOSS"), rows))
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in ours["metrics"].items())
    lines += [
        "",
        f"aggregations {ours['aggregations']} of {ours['updates']} updates" + (f"; {metrics}" * bool(metrics)),
    ]
    if ours["reason"]:
        lines.append(f"{ours['state']}: {ours['reason']}")
    return "\n".join(lines)


def age(seconds: float) -> str:
    """Return a time as kubectl shows ages: 45s, 12m, 5h, 3d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _status(phase: str, phases: List[str], progress: Progress) -> Document:
    """Return the CRD's status block; its counts are of workers, the aggregation worker included."""
    status: Document = {
        "phase": phase,
        "active": phases.count(RUNNING),
        "succeeded": phases.count(SUCCEEDED),
        "failed": phases.count(FAILED),
        "conditions": _conditions(phase, progress),
    }
    if progress.started is not None:
        status["startTime"] = _time(progress.started)
    if phase == SUCCEEDED and progress.ended is not None:
        status["completionTime"] = _time(progress.ended)
    return status


def _conditions(phase: str, progress: Progress) -> List[Document]:
    if progress.ended is None:
        return []
    at = _time(progress.ended)
    common = {"status": "True", "lastProbeTime": at, "lastHeartbeatTime": at}
    found: List[Document] = []
    if progress.round:
        text = f"Round {progress.round} reaches at {at}"
        found.append({"type": "Training", **common, "reason": "DoTraining", "message": text})
    if phase == SUCCEEDED:
        found.append({"type": "Complete", **common, "reason": "", "message": ""})
    if phase == FAILED:
        why = progress.reason or "the worker of FederatedLearningJob failed"
        found.append({"type": "Failed", **common, "reason": "workerFailed", "message": why})
    return found


def _delivered(plan: JobPlan) -> Dict[str, int]:
    """Return the images of each silo of a MistNet job whose features the server has."""
    found = {}
    for trainer in plan.trainers:
        manifest = read_json(_features(plan) / place_name(trainer.silo) / MANIFEST_NAME)
        if manifest is not None:
            found[trainer.silo] = int(manifest["count"])
    return found


def _is_pooled(plan: JobPlan) -> bool:
    """Tell whether the training on the silos' features has begun."""
    return (_features(plan) / POOL).is_file()


def _features(plan: JobPlan) -> Path:
    return Path(plan.aggregator.checkpoint_dir) / FEATURES


def _node(trainer: TrainerPlan, phase: str, told: Mapping[str, Any]) -> Document:
    return {
        "node": trainer.node,
        "role": "train",
        "worker": trainer.silo,
        "phase": phase,
        "dataset": trainer.dataset.name,
        "samples": told.get("samples"),
        "round": told.get("iteration"),
        "loss": told.get("loss"),
    }


def _phase(run_dir: Path, role: str, progress: Progress, alive: bool, known: bool) -> str:
    """Return how a worker stands: by its process here, or by what the job says of one on another machine.

    Args:
        alive: the job says that it lives.
        known: the job has heard of it.
    """
    record = read_json(run_dir / role / PROCESS_FILE)
    if record is None:
        if alive:
            return RUNNING
        return ENDED.get(progress.state, PENDING) if known else PENDING
    if proc.is_alive(int(record.get("pid") or 0), int(record.get("start_time") or 0)):
        return RUNNING
    return ENDED.get(progress.state, FAILED)


def _job_phase(progress: Progress, phases: List[str]) -> str:
    if progress.state in ENDED:
        return ENDED[progress.state]
    if RUNNING in phases:
        return RUNNING
    return FAILED if FAILED in phases else PENDING


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _seconds(text: Optional[str]) -> Optional[float]:
    return None if text is None else float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
