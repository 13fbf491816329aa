"""The moving average of a silo's weights over its steps (Polyak and Juditsky 1992; exponential, as YOLOv5 has it).

What it means in a federation: e = d e + (1 - d) w after each local step, and nothing else. A new global model is no
step: the average stays as it is and the next step's weights enter it. Since the rule is linear, the mean of the
silos' averages is then the average of the mean of their models over all steps, through the rounds' borders, where the
mean of what the silos had is what all go on with (exact with equal steps and all silos; near it otherwise).
Moving e along with each new global model (e += new - old) has the same mean, but lets each silo's e gather its own
drift without bound, up to negative variances of batch norm, and a round without one silo would show it. As it is, e
is a mean of weights that the silo had. Rounds that a silo did not take part in count as steps at the model that came
of them.
"""

from __future__ import annotations

from typing import Dict, Mapping, Protocol

import numpy as np

from cross_silo.config.model import ModelConfig
from cross_silo.training.schedule import average_decay

PIECE = 65_536
"""Values worked on at a time; they stay in the processor's cache."""
PREFIX = "average."
"""Of the names in a worker's state."""


class Readable(Protocol):
    """A tensor; MindSpore's on a CPU shows its own memory."""

    def asnumpy(self) -> np.ndarray:
        """The values now, float32."""


class MovingAverage:
    """Follows tensors on the host: on a CPU several times faster than a graph's kernels for many small tensors."""

    def __init__(self, tensors: Mapping[str, Readable], config: ModelConfig) -> None:
        """Begin at ``tensors``' values."""
        self._tensors = tensors
        self._config = config
        self._average: Dict[str, np.ndarray] = {}
        self._change = np.empty(PIECE, np.float32)
        self.begin()

    def begin(self) -> None:
        """Begin again at the tensors' values: before the first step."""
        self._average = {name: tensor.asnumpy().astype(np.float32, order="C") for name, tensor in self._tensors.items()}

    def update(self, step: int, times: int = 1) -> None:
        """Take in the tensors' values after step ``step``, the first being 1, as often as ``times`` steps would."""
        share = np.float32(1 - average_decay(self._config, step) ** times)
        for name, tensor in self._tensors.items():
            average, values = self._average[name].reshape(-1), tensor.asnumpy().reshape(-1)
            for start in range(0, average.size, PIECE):
                piece = average[start : start + PIECE]
                change = np.subtract(values[start : start + PIECE], piece, out=self._change[: piece.size])
                change *= share
                piece += change

    def values(self) -> Dict[str, np.ndarray]:
        """Return the average of each tensor; overwritten by the next update."""
        return dict(self._average)

    def state(self) -> Dict[str, np.ndarray]:
        """Return what :meth:`load_state` goes on from."""
        return {PREFIX + name: array for name, array in self._average.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave. Raises KeyError for a tensor that is missing."""
        self._average = {
            name: np.array(state[PREFIX + name], np.float32).reshape(array.shape)
            for name, array in self._average.items()
        }
