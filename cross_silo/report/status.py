"""How a job stands at this moment, from what its store says; for people, programs and Prometheus."""

from __future__ import annotations

import json
import time
from typing import Any, Collection, Dict, List, Mapping, Optional

from cross_silo.config.schema import build
from cross_silo.config.stop_condition import StopCondition
from cross_silo.coordination import JobStore
from cross_silo.coordination.store import ROLES
from cross_silo.errors import UserError
from cross_silo.report.summary import finite

KEPT_FAILURES = 5
METRICS = ("AP50", "AP")
PROGRESS = ("node", "worker", "samples", "phase", "iteration", "epoch", "step", "loss")
"""What is shown of what a silo's worker told of itself."""

Status = Dict[str, Any]


def shown_state(job: Mapping[str, str], servers: Collection[Any]) -> str:
    """Return the job's state; "no_server" where it should run, but no server is alive."""
    return "no_server" if job["state"] == "running" and not servers else job["state"]


def read_status(store: JobStore, fl_name: str, now: Optional[float] = None) -> Status:
    """Return how the job stands.

    Args:
        now: Unix time.

    Raises:
        UserError: the store has no record of the job.
    """
    job = store.job()
    if job is None:
        raise UserError(f"no record of job {fl_name!r} in Redis: it has not begun, or ended more than 5 minutes ago")
    now = time.time() if now is None else now
    members = {role: store.members(role) for role in ROLES}
    servers, settings = members["server"], json.loads(job.get("settings", "{}"))
    live = next(iter(servers.values()), {})
    records = store.rounds()
    good = [record for record in records if record["good"]]
    good_rounds = max(int(job.get("good_rounds", 0)), len(good))
    participants = _participants(store, live, settings, records, now)
    aged = max(now - live.get("told", now), 0.0)
    stop = build(StopCondition, settings.get("stop_condition", {}), "settings")
    status = {
        "fl_name": fl_name,
        "instance": job.get("instance", ""),
        "engine": job.get("engine", ""),
        "state": shown_state(job, servers),
        "reason": job.get("reason", ""),
        "started": float(job["started"]) if "started" in job else None,
        "round": int(job.get("iteration", 0)),
        "rounds": int(job.get("fl_iteration_num", 0)),
        "attempt": int(job.get("attempt", 1)),
        "phase": job.get("phase", ""),
        "good_rounds": good_rounds,
        "failed_rounds": len(records) - len(good),
        "aggregations": good_rounds,
        "updates": sum(len(record["participants"]) for record in good),
        "bytes_up": sum(record["bytes_up"] for record in records),
        "bytes_down": sum(record["bytes_down"] for record in records),
        "windows": {key: round(left - aged, 1) for key, left in live.get("windows", {}).items()},
        "participants": participants,
        "missing": _missing(participants, job, settings, now),
        "failures": [
            {name: record[name] for name in ("round", "attempt", "reason", "ended")}
            for record in records
            if not record["good"]
        ][-KEPT_FAILURES:],
        "evaluations": [
            {"round": number, **{name: metrics.get(name) for name in METRICS}}
            for number, metrics in store.evaluations().items()
        ],
        "stop_condition": "" if stop.is_empty else str(stop),
        **{name: json.loads(job[name]) if name in job else None for name in ("stop", "best")},
        "refused_updates": json.loads(job.get("refused_updates", "{}")),
        "servers": [{"server": 0, "address": live["address"], "lost": ""}, *live.get("servers", ())]
        if "address" in live
        else [],
        "members": {
            role: [{"node": node, **told} for node, told in sorted(found.items())] for role, found in members.items()
        },
    }
    return finite(status)


def _participants(
    store: JobStore,
    server: Mapping[str, Any],
    settings: Mapping[str, Any],
    records: List[Mapping[str, Any]],
    now: float,
) -> List[Status]:
    """Return the silos that are enrolled, alive or were seen, by name."""
    leases, seen = store.leases(), store.seen()
    enrolled = settings.get("silos")
    names = {*leases, *seen, *(enrolled if isinstance(enrolled, list) else ())}
    losses = {entry["silo"]: entry["loss"] for record in records for entry in record["participants"]}
    found = []
    for silo in sorted(names):
        lease = leases.get(silo)
        told = lease or seen.get(silo, {})
        age: Optional[float] = now - seen[silo]["seen"] if silo in seen else None
        if lease is not None:
            age = max(float(settings.get("lease", 15.0)) - lease["seconds_left"], 0.0)
        entry = {"silo": silo, "live": lease is not None, **{name: told.get(name) for name in PROGRESS}}
        entry["loss"] = losses.get(silo) if entry["loss"] is None else entry["loss"]
        entry["last_seen"] = None if age is None else round(age, 1)
        entry["in_round"], entry["why"] = _in_round(silo, server)
        found.append(entry)
    return found


def _in_round(silo: str, server: Mapping[str, Any]) -> List[str]:
    if silo in server.get("left_out", {}):
        return ["left out", server["left_out"][silo]]
    for name in ("pushed", "joined"):
        if silo in server.get(name, ()):
            return [name, ""]
    return ["", ""]


def _missing(
    participants: List[Status], job: Mapping[str, str], settings: Mapping[str, Any], now: float
) -> List[Status]:
    """Return who should be there and is not, and since when (Unix time); a silo of no known name has none."""
    if job["state"] not in ("running", "disabled"):
        return []
    started = float(job.get("started", now))
    missing = [
        {
            "silo": entry["silo"],
            "since": started if entry["last_seen"] is None else now - entry["last_seen"],
            "seen": entry["last_seen"] is not None,
        }
        for entry in participants
        if not entry["live"]
    ]
    silos = settings.get("silos", 0)
    expected = len(silos) if isinstance(silos, list) else silos
    expected = expected or settings.get("round", {}).get("start_fl_job_threshold", 0)
    unknown = expected - len(participants)
    return missing + [{"silo": "", "since": started, "seen": False}] * max(unknown, 0)
