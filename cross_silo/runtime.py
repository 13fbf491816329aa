"""What a process sets before MindSpore is imported: oneDNN's instruction set, threads, seed, device.

MindSpore 2.9 and 2.10 bundle a oneDNN that, on a host with AVX-512, falls back to a reference kernel for
convolutions in plain layout (about 100 times slower). Held to AVX2 it takes its fast kernel.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import List, Optional

ISA_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_started: List[str] = []


def cpu_flags(cpuinfo: str = "/proc/cpuinfo") -> "frozenset[str]":
    """Return the CPU's feature flags as the kernel lists them; empty where that file does not exist."""
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def prepare(threads: Optional[int] = None, cpuinfo: str = "/proc/cpuinfo") -> None:
    """Set the environment that MindSpore reads when it is imported. A user's own setting wins.

    Args:
        threads: OpenMP threads a process may use; None leaves the library's default.
        cpuinfo: where the CPU's flags are read.

    Raises:
        RuntimeError: MindSpore was imported already, so that the settings would be ignored.
    """
    if platform.machine() in ("x86_64", "AMD64") and "avx512f" in cpu_flags(cpuinfo):
        if "mindspore" in sys.modules and ISA_VARIABLE not in os.environ:
            raise RuntimeError(f"{ISA_VARIABLE} must be set before mindspore is imported")
        os.environ.setdefault(ISA_VARIABLE, "AVX2")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("GLOG_v", "3")  # errors only: its warnings on CPU would bury the training log


def start(seed: int, device: str = "CPU") -> None:
    """Import MindSpore in graph mode on ``device`` and seed it; call :func:`prepare` first.

    A second call in a process only seeds: the device cannot be set again once anything has run.
    """
    import mindspore

    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    if not _started:
        mindspore.set_device(device)
        _started.append(device)
    mindspore.set_seed(seed)
