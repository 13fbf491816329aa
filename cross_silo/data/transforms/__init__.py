"""Per-image transforms: numpy arrays in, numpy arrays out, randomness only from the generator given."""

from cross_silo.data.transforms.affine import RandomAffine
from cross_silo.data.transforms.colour import ColorJitter, HSVJitter
from cross_silo.data.transforms.flip import HorizontalFlip, VerticalFlip
from cross_silo.data.transforms.mosaic import Mosaic
from cross_silo.data.transforms.resize import Letterbox, ResizeAndPad, Resizing
from cross_silo.data.transforms.sample import AnyTransform, MixTransform, Sample, Transform, apply, clip_boxes

__all__ = [
    "AnyTransform",
    "ColorJitter",
    "HSVJitter",
    "HorizontalFlip",
    "Letterbox",
    "MixTransform",
    "Mosaic",
    "RandomAffine",
    "ResizeAndPad",
    "Resizing",
    "Sample",
    "Transform",
    "VerticalFlip",
    "apply",
    "clip_boxes",
]
