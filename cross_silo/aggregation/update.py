"""An update that has passed all checks: what the average needs of it, and what the round's record does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional

import numpy as np

Tensors = Mapping[str, np.ndarray]
"""Flat float32 arrays by name."""


@dataclass(frozen=True)
class CheckedUpdate:
    """One silo's update of a round."""

    tensors: Tensors
    """The silo's weights times its samples; views of a buffer that is used again after the update is added."""
    samples: int
    loss: float = 0.0
    stats: Mapping[str, float] = field(default_factory=dict)
    """steps, train_seconds, loss."""
    size: int = 0
    """Bytes received."""
    norm: Optional[float] = None
    """L2 norm of (weights - global model) over trainable tensors, where something reads it."""
    silo: str = ""
    """Whose it is."""
