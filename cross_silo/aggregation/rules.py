"""From the settings to the rule that makes a new model of a round's updates."""

from __future__ import annotations

from typing import Callable

from cross_silo.aggregation.averaging import Place, RoundSum, WeightedSum
from cross_silo.aggregation.clipped_mean import ClippedSum
from cross_silo.aggregation.median import Median
from cross_silo.aggregation.trimmed_mean import TrimmedMean
from cross_silo.aggregation.update import Tensors
from cross_silo.config.aggregation import CLIPPED_MEAN, MEDIAN, TRIMMED_MEAN, Aggregation


def make_sum(settings: Aggregation, place: Place, model: Callable[[], Tensors]) -> RoundSum:
    """Return the rule that ``settings`` name.

    Args:
        place: finds memory for a new model.
        model: returns the global model of the round in progress.
    """
    if settings.rule == CLIPPED_MEAN:
        return ClippedSum(place, settings.clip_norm, model)
    if settings.rule == MEDIAN:
        return Median(place)
    if settings.rule == TRIMMED_MEAN:
        return TrimmedMean(place, settings.trim_share)
    return WeightedSum(place)
