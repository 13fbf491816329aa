"""YOLOv5, release 6 (n, s, m, l, x), in MindSpore's graph mode."""

from yolo.detector import YOLOv5 as Detector

__all__ = ["Detector"]
