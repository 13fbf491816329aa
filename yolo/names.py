"""Names of the public YOLOv5's tensors (release 6.0 to 7.0, PyTorch) and ours, which differ in batch norm alone."""

from __future__ import annotations

import re
from typing import Mapping, Optional

import numpy as np

from cross_silo.detection.names import BATCHES, BATCHES_REASON, NORM_FROM_OURS, NORM_TO_OURS, Renamed, rename
from yolo.anchors import anchor_table, in_strides
from yolo.settings import LAYERS, STRIDES, Settings

WRAPPERS = re.compile(r"^(?:module\.|network\.|model\.(?=model\.))+")
"""What data parallelism, a training cell or an inference wrapper puts before the layers' names."""
MINDYOLO_BLOCK = re.compile(r"\.conv([123])\.(?=conv\.|bn\.)")
"""mindyolo's conv1 is the public cv1."""
CONV = re.compile(r"(model\.\d+\.(?:[\w.]+\.)?)(?:(conv\.weight)|bn\.(\w+))")
HEAD = re.compile(rf"model\.{LAYERS}\.m\.\d\.(?:weight|bias)")
ANCHORS = f"model.{LAYERS}.anchors"
ANCHOR_GRID = f"model.{LAYERS}.anchor_grid"
FOCUS = "model.0.conv.conv.weight"
OTHER_RELEASE = "release 5 or before: its first layer is another one, and its layers are numbered otherwise"


def map_pretrained(name: str) -> Optional[str]:
    """Return our name for a checkpoint's tensor, under the public names, mindyolo's or ours; None: none."""
    name = MINDYOLO_BLOCK.sub(r".cv\1.", WRAPPERS.sub("", name))
    if HEAD.fullmatch(name):
        return name
    found = CONV.fullmatch(name)
    if not found or name == FOCUS:
        return None
    if found[2]:
        return name
    norm = NORM_TO_OURS.get(found[3], found[3])
    return f"{found[1]}bn.{norm}" if norm in NORM_FROM_OURS else None


def public_name(name: str) -> Optional[str]:
    """Return the public name of our tensor; None: it is none of the network's."""
    found = CONV.fullmatch(name)
    if HEAD.fullmatch(name) or (found and found[2]):
        return name
    norm = NORM_FROM_OURS.get(found[3]) if found else None
    return f"{found[1]}bn.{norm}" if found and norm else None


class PublicYOLOv5:
    """The public names, both ways.

    Args:
        settings: of the model, where a model YAML says them; the anchors are not among our tensors.
    """

    def __init__(self, settings: Optional[Settings] = None) -> None:
        self.settings = settings

    def to_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename a public checkpoint's tensors; values stay as they are."""
        renamed = rename(tensors, map_pretrained, _reason)
        if any(WRAPPERS.sub("", name) == FOCUS for name in tensors):
            renamed.notes.append(f"{FOCUS}: {OTHER_RELEASE}")
        for name, value in tensors.items():
            if WRAPPERS.sub("", name) == ANCHORS and value.shape[:1] == (len(STRIDES),) and value.ndim == 3:
                renamed.notes.append(self._about_anchors(value))
        return renamed

    def from_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename our tensors; the anchors are added where the settings say them."""
        renamed = rename(tensors, public_name, lambda name: "no tensor of the network")
        if self.settings is None:
            renamed.notes.append(f"{ANCHORS} is left out: the anchors stand in the model YAML, which is not given")
        else:
            renamed.tensors[ANCHORS] = in_strides(anchor_table(self.settings))
            renamed.notes.append(f"{ANCHORS} is made of the model YAML's anchors, in strides")
        return renamed

    def num_classes(self, tensors: Mapping[str, np.ndarray]) -> Optional[int]:
        """Return the number of object classes that our ``tensors`` are for, where the head is among them."""
        bias = tensors.get(f"model.{LAYERS}.m.0.bias")
        per_position = (self.settings or Settings()).anchors_per_position
        if bias is None or bias.size % per_position or bias.size // per_position <= 5:
            return None
        return bias.size // per_position - 5

    def _about_anchors(self, found: np.ndarray) -> str:
        pixels = [
            [round(float(side) * stride, 3) for side in level.reshape(-1)] for level, stride in zip(found, STRIDES)
        ]
        ours = (self.settings or Settings()).anchors
        whose = "the model YAML's" if self.settings else "the default"
        if np.shape(pixels) == np.shape(ours) and np.allclose(pixels, ours, rtol=1e-3):
            return f"{ANCHORS} agrees with {whose} anchors"
        return f"{ANCHORS} differs from {whose} anchors; set in the model YAML  anchors: {pixels}"


def _reason(name: str) -> str:
    name = WRAPPERS.sub("", name)
    if name.endswith(BATCHES):
        return BATCHES_REASON
    if name in (ANCHORS, ANCHOR_GRID):
        return "anchors stand in the model YAML"
    if name == FOCUS:
        return OTHER_RELEASE
    if name.endswith(".conv.bias"):
        return "batch norm folded into a convolution, which cannot be undone"
    return "name unknown"
