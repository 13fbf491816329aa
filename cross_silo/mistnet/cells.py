"""The two parts of a network that is cut, and both with bits between them, each in the place of the whole network."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
from mindspore import Tensor, nn

from cross_silo.mistnet.spec import Cut


class _Part(nn.Cell):
    """Holds a network and shows the cells in it, which a detector's other cells may use beside ``construct``."""

    def __init__(self, network: nn.Cell, cut: Cut) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.cut = cut
        for name, cell in network.name_cells().items():
            setattr(self, name, cell)


class ToFeatures(_Part):
    """From images to the cut."""

    def construct(self, image: Tensor) -> Tuple[Tensor]:
        """From uint8 (N, H, W, 3) to one tensor, float32 (N, C, h, w)."""
        return (self.network.forward_to(image, self.cut),)


class FromFeatures(_Part):
    """From the cut to the network's output."""

    def construct(self, features: Tensor) -> Any:
        """From float32 (N, C, h, w) to what the network's ``construct`` gives."""
        return self.network.forward_from(features, self.cut)


class ByBits(_Part):
    """From images to the network's output by way of bits without noise."""

    def __init__(self, network: nn.Cell, cut: Cut, thresholds: np.ndarray) -> None:
        super().__init__(network, cut)
        self.thresholds = Tensor(thresholds.reshape(1, -1, 1, 1))

    def construct(self, image: Tensor) -> Any:
        """From uint8 (N, H, W, 3) to what the network's ``construct`` gives."""
        features = self.network.forward_to(image, self.cut)
        return self.network.forward_from((features > self.thresholds).astype("float32"), self.cut)
