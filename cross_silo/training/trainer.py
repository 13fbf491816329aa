"""What a worker's session asks of whatever trains: the interface that MindSpore's trainer implements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Mapping, Protocol, Tuple

import numpy as np

Weights = Mapping[str, np.ndarray]
"""Tensor name -> float32 array; flat or in the tensor's shape."""


@dataclass(frozen=True)
class StepRecord:
    """One training step."""

    step: int
    """Steps this trainer has taken, over all rounds; 1 after the first."""
    loss: float
    """Total loss."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """The total's summands by name."""


class NonFiniteLossError(Exception):
    """The loss is NaN or infinite, so that the weights are worthless."""

    def __init__(self, record: StepRecord) -> None:
        parts = ", ".join(f"{name}: {value}" for name, value in record.parts.items())
        super().__init__(f"step {record.step}: total_loss: {record.loss}" + (f" ({parts})" if parts else ""))
        self.record = record


class LocalTrainer(Protocol):
    """Trains one silo's model. A step is a pure function of weights, state and step number."""

    num_samples: int
    """Images of the silo: its weight in the average."""
    steps_per_epoch: int
    """Steps that see every image once."""
    step: int
    """Steps taken so far, over all rounds."""
    wait_seconds: float
    """Seconds spent waiting for data so far."""

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Shape of each federated tensor."""

    def kinds(self) -> Dict[str, str]:
        """``trainable`` or ``statistic`` for each federated tensor."""

    def get_weights(self) -> Dict[str, np.ndarray]:
        """The model's tensors now; valid until the next call of any method."""

    def final_weights(self) -> Dict[str, np.ndarray]:
        """What the job's last round takes: a moving average of the weights where one is kept, else the weights.

        Valid until the next call of any method.
        """

    def set_weights(self, weights: Weights, missed_steps: int = 0) -> None:
        """Copy the model's tensors from ``weights``; the optimizer's state stays.

        Args:
            missed_steps: steps that others took since this silo last trained; for a moving average they are steps
                at ``weights``. Without them it stays.
        """

    def train(self, steps: int, on_step: Callable[[StepRecord], None]) -> None:
        """Take ``steps`` steps; ``on_step`` hears of each. Raises NonFiniteLossError."""

    def state(self) -> Dict[str, np.ndarray]:
        """The optimizer's tensors and the moving average: with :attr:`step` and the weights all that is to come."""

    def load_state(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Go on from what :meth:`state` gave after ``step`` steps."""
