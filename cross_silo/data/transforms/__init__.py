"""Per-image transforms: numpy arrays in, numpy arrays out, randomness only from the generator given."""

from cross_silo.data.transforms.colour import ColorJitter
from cross_silo.data.transforms.flip import HorizontalFlip
from cross_silo.data.transforms.resize import Letterbox, ResizeAndPad, Resizing
from cross_silo.data.transforms.sample import MixTransform, Sample, Transform, apply, clip_boxes

__all__ = [
    "ColorJitter",
    "HorizontalFlip",
    "Letterbox",
    "MixTransform",
    "ResizeAndPad",
    "Resizing",
    "Sample",
    "Transform",
    "apply",
    "clip_boxes",
]
