"""Whether memory and disk suffice for this model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Optional

from cross_silo.config.aggregation import MEDIAN, TRIMMED_MEAN
from cross_silo.config.auth import SCHEDULER, SERVER
from cross_silo.errors import UserError
from cross_silo.preflight.check import ERROR, OK, SKIPPED, WARNING, Check, size
from cross_silo.preflight.plan import Plan

SERVER_BYTES = 150e6
"""A server's memory beside models."""
WORKER_BYTES = 600e6
"""A worker's beside models: Python, MindSpore and its kernels, before it holds an image."""
WORKER_MODELS = 6
"""Weights, gradients, momentum, an update, a received model, and one that is written: the least a worker holds."""
KEPT_MODELS = 5
"""On the server's disk: three checkpoints, the best one, and the one being written."""
STATE_MODELS = 4
"""On a worker's disk: its state, weights and moments, and the one that is written beside it."""
LOGS = 50e6


def check_room(plan: Plan) -> List[Check]:
    """Look at memory and disk."""
    if plan.role == SCHEDULER:
        return [_memory(100e6, "a scheduler"), _disk(plan.run_dir, LOGS, LOGS, "logs")]
    model, source = plan.model_bytes
    if not model:
        return [Check("memory", SKIPPED, source), _disk(plan.run_dir, LOGS, LOGS, "logs")]
    shown = f"a model of {size(model)} ({source})"
    if plan.role == SERVER:
        held = plan.config.round.max_uploads + 3
        if plan.config.aggregation.rule in (MEDIAN, TRIMMED_MEAN):
            held += plan.config.round.most
        directory = plan.checkpoint_dir or plan.run_dir
        others = (plan.servers - 1) / plan.servers  # share of the model that the other servers have
        what = f"{held} times {shown}"
        if others:
            what += f", and {held} times {others:.0%} of it at the {plan.servers - 1} other servers"
        return [
            _memory(held * (1 + others) * model + plan.servers * SERVER_BYTES, what),
            _disk(directory, 2 * model, KEPT_MODELS * model, f"checkpoints of {shown}"),
        ]
    least = plan.count * (WORKER_MODELS * model + WORKER_BYTES)
    whole = plan.count * (STATE_MODELS + plan.config.fl_iteration_num) * model
    workers = f"{plan.count} worker{'s' * (plan.count > 1)}, {shown}; images and activations come on top"
    return [
        _memory(least, workers),
        _disk(plan.run_dir, plan.count * STATE_MODELS * model, whole, "states and a checkpoint a round"),
    ]


def _memory(needed: float, what: str) -> Check:
    available = available_memory()
    if available is None:
        return Check("memory", SKIPPED, f"not known here; needed: {size(needed)} for {what}")
    found = f"{size(available)} available, at least {size(needed)} needed: {what}"
    return Check("memory", OK if available >= needed else ERROR, found)


def available_memory(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> Optional[float]:
    """Return bytes that a new process may use: the machine's, or what the container's limit leaves."""
    try:
        lines = dict(line.split(":", 1) for line in proc.read_text(encoding="utf-8").splitlines())
        machine = sum(int(lines[name].split()[0]) * 1024.0 for name in ("MemAvailable", "SwapFree"))
    except (OSError, ValueError, KeyError):
        return None
    try:
        limit, used = ((group / f"memory.{name}").read_text(encoding="utf-8") for name in ("max", "current"))
        caches = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
        return min(machine, float(limit) - float(used) + float(caches.get("inactive_file", 0)))
    except (OSError, ValueError):  # no limit ("max"), or another kind of machine
        return machine


def _disk(directory: Path, least: float, whole: float, what: str) -> Check:
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}") from None
    result = OK if free >= whole else WARNING if free >= least else ERROR
    return Check("disk", result, f"{size(free)} free in {there}, {size(whole)} needed: {what}")
