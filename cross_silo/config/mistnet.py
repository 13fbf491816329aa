"""MistNet: silos send noisy one-bit features once, and the server trains the rest of the detector on them.

Names are those of published implementations where they have one; :mod:`cross_silo.mistnet` is the mechanism.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Union

from cross_silo.config.schema import require
from cross_silo.errors import UserError

FEDAVG, MISTNET = "fedavg", "mistnet"
ALGORITHMS = (FEDAVG, MISTNET)
MISTNET_TYPE = "MistNet"
"""What aggregation.aggregation_type calls it."""
HALF, PER_BIT = "half", "per_bit"
CONVENTIONS = (HALF, PER_BIT)
ZERO, CALIBRATED = "zero", "calibrated"
CLEAN, NOISY, BOTH = "clean", "noisy", "both"
LEAST_EPSILON = 1e-6
"""Below, the bits say nothing that any number of images could make up for."""


@dataclass(frozen=True)
class MistNet:
    """How features are made and what is trained on them; read with algorithm mistnet alone."""

    cut_layer: Union[int, str] = ""
    """Where the network is cut: YOLOv5: how many first layers a silo computes, 1 to 5; Faster R-CNN: stem or layer1."""
    epsilon: Optional[float] = None
    """Noise of each bit, more than 0, the smaller the more; null: bits without noise."""
    epsilon_convention: str = "half"
    """half: a bit stays with probability sigmoid(epsilon / 2), as Plato and Sedna count; per_bit: sigmoid(epsilon)."""
    thresholds: str = "zero"
    """zero: a bit says whether an activation is above 0; calibrated: above its channel's median over public images."""
    calibration_images: str = ""
    """Directory of public images on the server's host, with thresholds calibrated."""
    label_epsilon: Optional[float] = None
    """Noise of each object's class by randomised response, more than 0; null: classes are sent as they are."""
    box_jitter: float = 0.0
    """Each side of a box is moved by up to this share of the box's extent, below 0.5; 0: boxes are sent as they are."""
    epochs: int = 50
    """Passes of the server over all features; they stand in the place of fl_iteration_num."""
    batch_size: int = 0
    """Images a step of the server's training; 0 leaves it to the model YAML."""
    flip: float = 0.5
    """Probability that a step mirrors an image's features, and its boxes."""
    crop: float = 0.1
    """Share of height and width by which a step shifts features, and boxes, each way at most; 0: none."""
    min_silos: int = 0
    """Silos whose features are enough when deadline has passed; 0: all."""
    deadline: float = 3600.0
    """Seconds that the server waits for the features of all silos."""
    evaluate_on: str = "clean"
    """Bits of the evaluation images: clean, noisy (as those of training) or both."""

    def __post_init__(self) -> None:
        for key in ("epsilon", "label_epsilon"):
            value = getattr(self, key)
            require(
                value is None or (math.isfinite(value) and value >= LEAST_EPSILON),
                f"{key} is {value}, expected null (no noise) or a number more than 0 (at least {LEAST_EPSILON:g})",
            )
        for key, choices in (
            ("epsilon_convention", CONVENTIONS),
            ("thresholds", (ZERO, CALIBRATED)),
            ("evaluate_on", (CLEAN, NOISY, BOTH)),
        ):
            found = getattr(self, key)
            require(found in choices, f"{key} is {found!r}, expected one of {', '.join(choices)}")
        calibrated = self.thresholds == CALIBRATED
        require(
            calibrated or not self.calibration_images,
            f"calibration_images is {self.calibration_images!r}, but only thresholds calibrated reads it",
        )
        require(bool(self.calibration_images) or not calibrated, "thresholds is calibrated without calibration_images")
        require(0 <= self.box_jitter < 0.5, f"box_jitter is {self.box_jitter}, expected 0 to below 0.5")
        require(0 <= self.flip <= 1, f"flip is {self.flip}, expected 0 to 1")
        require(0 <= self.crop <= 0.5, f"crop is {self.crop}, expected 0 to 0.5")
        require(1 <= self.epochs < 2**31, f"epochs is {self.epochs}, expected 1 to 2^31-1")
        for key in ("batch_size", "min_silos"):
            require(getattr(self, key) >= 0, f"{key} is {getattr(self, key)}, expected 0 or more")
        require(
            self.deadline > 0 and math.isfinite(self.deadline), f"deadline is {self.deadline}, expected more than 0"
        )
        require(
            self.evaluate_on == CLEAN or self.epsilon is not None,
            f"evaluate_on is {self.evaluate_on} with epsilon null: there is no noise",
        )


def chosen_algorithm(algorithm: str, aggregation_type: str) -> str:
    """Return the job's algorithm from the keys ``algorithm`` and ``aggregation.aggregation_type``.

    Raises:
        ValueError: the first is unknown, or contradicts the second.
    """
    by_type = MISTNET if aggregation_type == MISTNET_TYPE else ""
    chosen = algorithm or by_type or FEDAVG
    require(chosen in ALGORITHMS, f"algorithm is {chosen!r}, expected one of {', '.join(ALGORITHMS)}")
    require(
        by_type in ("", chosen),
        f"algorithm is {chosen}, but aggregation.aggregation_type is {aggregation_type}; expected the same",
    )
    return chosen


def require_algorithm(flag: str, algorithm: str, yaml_config: str) -> None:
    """Refuse a flag --algorithm that contradicts the job's; an empty one does not. Raises UserError."""
    if flag and flag != algorithm:
        raise UserError(f"--algorithm is {flag}, but {yaml_config} says {algorithm}; expected the same")
