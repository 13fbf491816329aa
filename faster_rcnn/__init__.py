"""Faster R-CNN with a feature pyramid (Ren 2015, Lin 2017) in MindSpore's graph mode."""

from faster_rcnn.detector import FasterRCNN as Detector

__all__ = ["Detector"]
