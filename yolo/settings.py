"""The configuration keys of YOLOv5; names follow the field's hyper-parameter files where they have one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

from cross_silo.detection.settings import at_least, between, one_of, take_default_types
from cross_silo.errors import UserError

VARIANTS: Dict[str, Tuple[float, float]] = {
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.00, 1.00),
    "x": (1.33, 1.25),
}
"""Depth and width multiple of each variant."""
STRIDES = (8, 16, 32)
"""Pixels of the network's input per position, of the three levels."""
LAYERS = 24
"""Layers before the head."""
CUTS = (1, 2, 3, 4, 5)
"""Numbers of first layers whose last output is all that the others need: concatenations read layers 4 and 6."""


@dataclass(frozen=True)
class Settings:
    """Defaults are YOLOv5s's and those of its training from scratch on COCO."""

    variant: str = "s"
    """n, s, m, l or x: how deep and wide the network is."""
    depth_multiple: float = 0.0
    """Bottlenecks of a stage, as a share of variant l's; 0: the variant's."""
    width_multiple: float = 0.0
    """Channels, as a share of variant l's; 0: the variant's."""
    anchors: Tuple[Tuple[float, ...], ...] = (
        (10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
        (30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
        (116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
    )
    """Widths and heights in pixels of the anchors of strides 8, 16 and 32."""
    freeze: int = 0
    """How many of the first layers do not train; their batch norm uses the checkpoint's statistics."""

    box: float = 0.05
    """Weight of the box loss."""
    cls: float = 0.5
    """Weight of the class loss at 80 classes; proportional to the number of classes."""
    obj: float = 1.0
    """Weight of the objectness loss at 640 pixels; proportional to the input's area."""
    anchor_t: float = 4.0
    """Largest ratio of an object's sides to an anchor's for the anchor to be trained on it."""
    label_smoothing: float = 0.0
    """Share of a class target that is spread over all classes."""

    conf_thres: float = 0.001
    """Least score, objectness times class, of a detection."""
    iou_thres: float = 0.6
    """IoU above which the worse of two detections of a class goes."""
    max_det: int = 300
    """Detections an image."""

    mosaic: float = 1.0
    """Probability that a training image is a mosaic of four."""
    degrees: float = 0.0
    """Training images turn by up to this angle."""
    translate: float = 0.1
    """Training images shift by up to this share of their size."""
    scale: float = 0.5
    """Training images grow or shrink by up to this share."""
    shear: float = 0.0
    """Training images shear by up to this angle, in degrees; below 45."""
    flipud: float = 0.0
    """Probability that a training image is turned upside down."""
    fliplr: float = 0.5
    """Probability that a training image is mirrored."""
    hsv_h: float = 0.015
    """Colour jitter of training images: hue changes by up to this share of the circle."""
    hsv_s: float = 0.7
    """Colour jitter: saturation changes by up to this share."""
    hsv_v: float = 0.4
    """Colour jitter: brightness changes by up to this share."""

    def __post_init__(self) -> None:
        take_default_types(self)
        one_of("variant", self.variant, tuple(VARIANTS))
        for key in ("depth_multiple", "width_multiple", "box", "cls", "obj"):
            at_least(key, getattr(self, key), 0)
        for key in ("conf_thres", "iou_thres", "mosaic", "flipud", "fliplr", "hsv_h", "hsv_s", "hsv_v", "translate"):
            between(key, getattr(self, key), 0, 1)
        between("freeze", self.freeze, 0, LAYERS)
        between("degrees", self.degrees, 0, 180)
        at_least("max_det", self.max_det, 1)
        for key, below in (("scale", 1), ("label_smoothing", 1), ("shear", 45)):
            if not 0 <= getattr(self, key) < below:
                raise UserError(f"{key}: found {getattr(self, key)}; expected at least 0 and below {below}")
        if self.anchor_t <= 1:
            raise UserError(f"anchor_t: found {self.anchor_t}; expected more than 1")
        self._check_anchors()

    def _check_anchors(self) -> None:
        lengths = {len(level) for level in self.anchors}
        even = len(lengths) == 1 and min(lengths) > 0 and min(lengths) % 2 == 0
        if len(self.anchors) != len(STRIDES) or not even or min(min(level) for level in self.anchors) <= 0:
            raise UserError(
                f"anchors: found {[list(level) for level in self.anchors]}; expected {len(STRIDES)} lists, one a "
                "stride, each of as many pairs of width and height > 0"
            )

    @property
    def anchors_per_position(self) -> int:
        """Anchors of a level at each position."""
        return len(self.anchors[0]) // 2

    @property
    def multiples(self) -> Tuple[float, float]:
        """Depth and width multiple."""
        depth, width = VARIANTS[self.variant]
        return self.depth_multiple or depth, self.width_multiple or width
