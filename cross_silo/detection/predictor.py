"""From a cell that computes scores and boxes to the function that detects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Sequence

import numpy as np

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detections, Predictor


def make_predictor(
    cell: "nn.Cell", network: "nn.Cell", suppress: "Callable[[Sequence[np.ndarray]], List[Detections]]"
) -> "Predictor":
    """Return the function from images to detections; it leaves ``network``'s training flag as it was.

    Args:
        cell: holds ``network``; from a tensor of images to several tensors.
        suppress: from their arrays to the detections of each image.
    """
    from mindspore import Tensor

    def predict(images: np.ndarray) -> "List[Detections]":
        training = network.training
        cell.set_train(False)
        outputs = [output.asnumpy() for output in cell(Tensor(images))]
        network.set_train(training)
        return suppress(outputs)

    return predict
