"""What detectors' maps between public checkpoints' tensors and ours have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional

import numpy as np

NORM_TO_OURS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
"""A batch norm's tensors as PyTorch and as MindSpore call them."""
NORM_FROM_OURS = {ours: theirs for theirs, ours in NORM_TO_OURS.items()}
BATCHES = "num_batches_tracked"
BATCHES_REASON = "a count of batches, which our batch norm does not keep"


@dataclass
class Renamed:
    """Tensors under the names of another naming, and what has no place there."""

    tensors: Dict[str, np.ndarray] = field(default_factory=dict)
    sources: Dict[str, str] = field(default_factory=dict)
    """From a new name to the one before."""
    left_out: Dict[str, str] = field(default_factory=dict)
    """From a name before to the reason."""
    notes: List[str] = field(default_factory=list)
    """What the reader of the result should know: values that changed, conventions that differ."""


def rename(
    tensors: Mapping[str, np.ndarray],
    new_name: Callable[[str], Optional[str]],
    reason: Callable[[str], str],
    new_value: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value,
) -> Renamed:
    """Rename ``tensors``.

    Args:
        new_name: from a tensor's name to the new one; None: it has no place.
        reason: why not.
        new_value: from a tensor's name before and its value to the value under the new one.

    Raises:
        ValueError: two tensors have the same new name.
    """
    renamed = Renamed()
    for name, value in tensors.items():
        new = new_name(name)
        if new is None:
            renamed.left_out[name] = reason(name)
        elif new in renamed.tensors:
            raise ValueError(f"{renamed.sources[new]!r} and {name!r} both become {new!r}")
        else:
            renamed.tensors[new] = new_value(name, value)
            renamed.sources[new] = name
    return renamed
