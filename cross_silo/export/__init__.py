"""Trained models as files that other programs run: MindIR and ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, List, Protocol, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detections

MINDIR, ONNX = "mindir", "onnx"
FORMATS = (MINDIR, ONNX)


class Exportable(Protocol):
    """What a detector offers beside :class:`cross_silo.detector.Detector` so that it can be exported."""

    export_names: ClassVar[Tuple[str, ...]]
    """Names of the outputs of the exported graph."""

    def export_cell(self, network: "nn.Cell", images: int, file_format: str) -> "nn.Cell":
        """Return a cell from uint8 RGB (images, H, W, 3) to the outputs, of operators that ``file_format`` has."""

    def export_detections(self, outputs: Sequence[np.ndarray]) -> "List[Detections]":
        """Return each image's detections from the graph's outputs; numpy alone, as a user of the file would."""
