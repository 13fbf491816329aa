"""A MistNet model is the whole detector, but was trained from bits: what its checkpoint says, whoever detects obeys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Sequence

from cross_silo.checkpoint import CheckpointInfo
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.spec import Cut

if TYPE_CHECKING:
    from cross_silo.detector import Detector


def bits_at(cut: Cut, thresholds: Sequence[float]) -> Dict[str, Any]:
    """Return what a checkpoint says in ``info.mistnet`` of the bits that its rest was trained from."""
    return {"cut": cut, "thresholds": [float(value) for value in thresholds]}


def as_trained(detector: "Detector", info: CheckpointInfo) -> "Detector":
    """Return ``detector`` as the checkpoint's model was trained: with bits at the cut, if it was a MistNet job's.

    Raises:
        UserError: the checkpoint's cut is none of the detector's.
    """
    if not info.mistnet:
        return detector
    return CutDetector(detector, info.mistnet["cut"], info.mistnet["thresholds"])  # type: ignore[arg-type,return-value]
