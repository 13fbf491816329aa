"""How updates become the next model, and which are refused: FedAvg's mean or a robust rule, limits of norms."""

from __future__ import annotations

from dataclasses import dataclass

from cross_silo.config.mistnet import MISTNET_TYPE
from cross_silo.config.participation import Participation
from cross_silo.config.schema import require

MEAN, MEDIAN, TRIMMED_MEAN, CLIPPED_MEAN = "mean", "median", "trimmed_mean", "clipped_mean"
RULES = (MEAN, MEDIAN, TRIMMED_MEAN, CLIPPED_MEAN)
NEEDED_UPDATES = 3
"""With fewer, the median and the trimmed mean are the plain mean."""


@dataclass(frozen=True)
class Aggregation:
    """How updates become the next model. A norm is the L2 norm of (update - global model) over trainable tensors."""

    aggregation_type: str = "FedAvg"
    """FedAvg: the mean, weighted by samples (McMahan et al. 2017, Algorithm 1). MistNet: as algorithm mistnet."""
    rule: str = "mean"
    """mean: FedAvg's; clipped_mean: with norms held to clip_norm; median, trimmed_mean: by coordinate, unweighted."""
    trim_share: float = 0.0
    """Share of a round's updates that trimmed_mean leaves out at each end of a coordinate's values, rounded up."""
    clip_norm: float = 0.0
    """Norm down to which clipped_mean scales the longer updates."""
    max_update_norm: float = 0.0
    """Norm beyond which an update is refused; 0: none."""
    max_update_norm_factor: float = 0.0
    """The same, as a multiple of the median norm of the updates taken last (of three at least); 0: none."""

    def __post_init__(self) -> None:
        require(
            self.aggregation_type in ("FedAvg", MISTNET_TYPE),
            f"aggregation_type is {self.aggregation_type!r}, expected FedAvg or {MISTNET_TYPE}",
        )
        require(self.rule in RULES, f"rule is {self.rule!r}, expected one of {', '.join(RULES)}")
        for key, rule, most in (("trim_share", TRIMMED_MEAN, 0.5), ("clip_norm", CLIPPED_MEAN, float("inf"))):
            value = getattr(self, key)
            if self.rule == rule:
                expected = f"more than 0 and less than {most:g}" if most < 1 else "more than 0"
                require(0 < value < most, f"{key} is {value} with rule {rule}, expected {expected}")
            else:
                require(value == 0, f"{key} is {value}, but only rule {rule} reads it; rule is {self.rule!r}")
        for key in ("max_update_norm", "max_update_norm_factor"):
            value = getattr(self, key)
            require(0 <= value < float("inf"), f"{key} is {value}, expected 0 or more")
        factor = self.max_update_norm_factor
        require(not 0 < factor <= 1, f"max_update_norm_factor is {factor}: every second update would be refused")

    @property
    def measures_norms(self) -> bool:
        """Whether the norm of every update is needed."""
        return bool(self.clip_norm or self.max_update_norm or self.max_update_norm_factor)

    def check_updates(self, participation: Participation) -> None:
        """Refuse a robust rule in a job whose rounds may have too few updates for it. Raises ValueError."""
        require(
            self.rule not in (MEDIAN, TRIMMED_MEAN) or participation.least >= NEEDED_UPDATES,
            f"aggregation.rule is {self.rule}, but a round may close with {participation.least} updates "
            f"(round.min_clients, update_model_ratio); expected at least {NEEDED_UPDATES}: with fewer it is the mean",
        )
