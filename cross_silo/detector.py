"""The interface between the federation and a detector, and how a detector is found by its configured name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, ClassVar, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from cross_silo.errors import UserError

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.data.transforms import Transform

Detections = Tuple[np.ndarray, np.ndarray, np.ndarray]
"""One image's (boxes, scores, labels): float32 (k, 4) as x1, y1, x2, y2 in pixels of the network's input,
float32 (k,) falling, int32 (k,) contiguous class indices."""

Predictor = Callable[[np.ndarray], List[Detections]]
"""From uint8 RGB images (N, H, W, 3) of the network's static size to one :data:`Detections` an image."""


@dataclass(frozen=True)
class InputSize:
    """The static shapes that a detector is built for."""

    num_classes: int
    """Object classes, background not counted."""
    height: int
    """Pixels of the network's input."""
    width: int
    """Pixels of the network's input."""
    batch_size: int
    """Images a training step."""
    eval_batch_size: int
    """Images a prediction."""
    max_boxes: int
    """Ground-truth boxes an image is padded to."""


class Detector(Protocol):
    """What a detector offers. The class is imported without MindSpore; its methods import it."""

    tag: ClassVar[str]
    """Stands in the names of a worker's checkpoints."""
    settings_type: ClassVar[type]
    """A frozen dataclass of the detector's own configuration keys, all with defaults."""
    loss_names: ClassVar[Tuple[str, ...]]
    """Names of the loss parts that the training cell returns after the total."""

    def __init__(self, settings: Any, size: InputSize) -> None:
        """Check ``settings`` against ``size``; raises UserError or ValueError naming the key."""

    @property
    def noise_size(self) -> int:
        """How many uniform random numbers an image's training step needs (0: none)."""

    def build_network(self) -> "nn.Cell":
        """Return the network, newly initialised. Its parameter names are the federated tensors' names."""

    def training_cell(self, network: "nn.Cell") -> "nn.Cell":
        """Return a cell ``(image, boxes, labels, valid, noise) -> (total, part, ...)`` of float32 scalars.

        image: uint8 (N, H, W, 3) RGB. boxes: float32 (N, max_boxes, 4), x1, y1, x2, y2 in input pixels.
        labels: int32 (N, max_boxes), class index from 0. valid: int32 (N, max_boxes), 1 an object, 0 padding,
        -1 a crowd region (neither a target nor background). noise: float32 (N, max(noise_size, 1)) in [0, 1).
        """

    def predictor(self, network: "nn.Cell") -> Predictor:
        """Return a function that detects objects with ``network``'s current weights."""

    def train_transforms(self) -> "Sequence[Transform]":
        """Per-image transforms from a decoded image to the network's input size, for training."""

    def eval_transforms(self) -> "Sequence[Transform]":
        """The same for evaluation: no randomness."""

    def map_pretrained(self, name: str) -> Optional[str]:
        """Return which tensor of ours a pre-trained checkpoint's tensor ``name`` fills; None: none.

        A detector may also have ``pretrained_value(name, value)``: the value of that tensor in our layout, where
        public checkpoints have another one.
        """


class Cuttable(Detector, Protocol):
    """A detector whose network may be cut in two: a first part whose output is one tensor, and the rest.

    Its network has ``forward_to(image, cut)``, that tensor, (N, C, H, W), and ``forward_from(tensor, cut)``, what
    ``construct`` gives for the image, bit for bit. Its other cells use ``construct`` and the cells in it.
    """

    legal_cuts: "ClassVar[Tuple[Any, ...]]"
    """Where: numbers of layers or names of parts."""

    def feature_shape(self, cut: Any) -> Tuple[int, int, int]:
        """Return channels, height and width of an image's tensor at ``cut``."""

    def is_before(self, name: str, cut: Any) -> bool:
        """Tell whether the network's tensor ``name`` belongs to the part before ``cut``."""

    def edge_network(self, cut: Any) -> "nn.Cell":
        """Return the part before ``cut`` alone: from uint8 (N, H, W, 3) to (N, C, h, w).

        Its tensors have the names that they have in the whole network, and it has no others.
        """


def find_detector(name: str) -> type:
    """Return the detector class that the configuration's ``detector:`` names.

    ``package.module:Class`` names a class; a bare ``package`` stands for ``package:Detector``.

    Raises:
        UserError: the module cannot be imported or has no such class.
    """
    module_name, _, class_name = name.partition(":")
    class_name = class_name or "Detector"
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise UserError(
            f"detector: {name!r} cannot be imported ({error}); "
            "expected a detector package, or package.module:Class, that is installed or in a directory of PYTHONPATH"
        ) from None
    except AttributeError:
        raise UserError(f"detector: module {module_name!r} has no class {class_name!r}") from None
