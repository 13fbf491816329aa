"""Python and the installed packages against what the project asks for."""

from __future__ import annotations

import platform
import re
import sys
from importlib import metadata
from typing import Dict, List, Tuple

from cross_silo.config.auth import SCHEDULER, SERVER
from cross_silo.preflight.check import ERROR, OK, WARNING, Check
from cross_silo.preflight.plan import WORKER, Plan

PYTHON = ((3, 9), (3, 13))
"""From the first, below the second."""
CLOUD = ("PyYAML", "redis", "flatbuffers", "numpy")
NEEDED = {
    SCHEDULER: CLOUD,
    SERVER: (*CLOUD, "protobuf"),
    WORKER: ("PyYAML", "flatbuffers", "numpy", "protobuf", "mindspore", "Pillow"),
}
"""Packages without which the role cannot run."""


def check_versions(plan: Plan) -> List[Check]:
    """Look at Python and at each package that the role needs; at the others only whether their version fits."""
    checks = [_python()]
    wanted = requirements()
    missing, other, found = [], [], []
    for name in NEEDED[plan.role]:
        wanted.setdefault(name, "")
    for name, bounds in wanted.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in NEEDED[plan.role]:
                missing.append(f"{name}{bounds}")
            continue
        if name in NEEDED[plan.role]:
            found.append(f"{name} {version}")
        if not fits(version, bounds):
            other.append(f"{name} is {version}, expected {bounds}")
    if missing:
        checks.append(Check("packages", ERROR, f"not installed: {', '.join(missing)}; expected: pip install -e ."))
    elif other:
        checks.append(Check("packages", WARNING, "; ".join(other)))
    else:
        checks.append(Check("packages", OK, ", ".join(found)))
    return checks


def _python() -> Check:
    least, below = (".".join(map(str, version)) for version in PYTHON)
    known = PYTHON[0] <= sys.version_info[:2] < PYTHON[1]
    expected = "" if known else f", expected {least} or later, before {below}"
    return Check("Python", OK if known else ERROR, platform.python_version() + expected)


def requirements() -> Dict[str, str]:
    """Return the packages that the project asks for in any case, with their bounds; none where it is not installed."""
    try:
        listed = metadata.requires("cross-silo") or []
    except metadata.PackageNotFoundError:
        return {}
    pairs = (re.match(r"([\w.-]+)\s*(.*)", line) for line in listed if ";" not in line)
    return {pair[1]: pair[2] for pair in pairs if pair}


def fits(version: str, bounds: str) -> bool:
    """Tell whether a version is within bounds such as ``>=2.9,<2.11``."""
    compare = {
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        "==": lambda a, b: a == b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
    }
    parts = re.findall(r"(>=|<=|==|<|>)\s*([\w.]+)", bounds)
    return all(compare[sign](_numbers(version), _numbers(bound)) for sign, bound in parts)


def _numbers(version: str) -> Tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in leading[0].split(".")] if leading else []
    return tuple(numbers + [0] * (4 - len(numbers)))
