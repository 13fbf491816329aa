"""A user's own detector: CenterNet in small, trained by the federation without a change to it."""

from own_detector.detector import CenterNet

__all__ = ["CenterNet"]
