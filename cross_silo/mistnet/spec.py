"""What silos and server of a MistNet job agree on: the cut, the extractor, the noise, the classes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from cross_silo.errors import UserError

Cut = Union[int, str]
Shape = Tuple[int, int, int]
"""Channels, height and width of the features of one image."""


@dataclass(frozen=True)
class FeatureSpec:
    """How features are made. Two silos' features belong together exactly where these are equal."""

    cut: Cut
    shape: Shape
    bits: int
    """r: the product of ``shape``."""
    p: float
    """Probability that a 1 is sent as 1."""
    q: float
    """Probability that a 0 is sent as 1."""
    epsilon: Optional[float]
    convention: str
    thresholds_sha256: str
    """Of the thresholds, float32 (C,), little endian."""
    extractor_sha256: str
    """:func:`~cross_silo.checkpoint.content_sha256` of the tensors before the cut."""
    detector: str
    """The detector's tag."""
    height: int
    """Pixels of the extractor's input."""
    width: int
    """Pixels of the extractor's input."""
    categories: Tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    label_epsilon: Optional[float]
    box_jitter: float

    def terms(self) -> Dict[str, Any]:
        """Return all of it as JSON has it, tuples being lists."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_terms(cls, terms: Mapping[str, Any], where: str) -> "FeatureSpec":
        """Return what :meth:`terms` gave; other entries are passed over. Raises UserError naming ``where``."""
        values = {}
        for item in fields(cls):
            if item.name not in terms or not _fits(item.name, terms[item.name]):
                found = repr(terms[item.name]) if item.name in terms else "nothing"
                raise UserError(f"{where}: {item.name}: found {found:.80}; expected a manifest of features")
            value = terms[item.name]
            values[item.name] = tuple(value) if isinstance(value, list) else value
        spec = cls(**values)
        channels, height, width = spec.shape
        if spec.bits != channels * height * width or spec.bits < 1 or not 0 <= spec.q < spec.p <= 1:
            raise UserError(f"{where}: {spec.bits} bits of shape {spec.shape}, p {spec.p}, q {spec.q}: is damaged")
        return spec

    @property
    def packed_bytes(self) -> int:
        """Bytes of an image's bits."""
        return -(-self.bits // 8)

    @property
    def digest(self) -> bytes:
        """A hash that differs where anything of it does."""
        return hashlib.sha256(json.dumps(self.terms(), sort_keys=True).encode()).digest()


def check_same(mine: FeatureSpec, theirs: FeatureSpec, here: str, there: str) -> None:
    """Refuse two specifications that differ. Raises UserError naming each difference with both values."""
    found, expected = mine.terms(), theirs.terms()
    differences = [
        f"{name} is {_short(found[name])} in {here}, {_short(expected[name])} in {there}"
        for name in found
        if found[name] != expected[name]
    ]
    if differences:
        raise UserError("; ".join(differences) + "; expected the same")


def _fits(name: str, value: Any) -> bool:
    if name == "cut":
        return type(value) in (int, str)
    if name == "shape":
        return type(value) in (list, tuple) and len(value) == 3 and all(type(v) is int and v > 0 for v in value)
    if name == "categories":
        return type(value) in (list, tuple) and len(value) > 0 and all(type(v) is str for v in value)
    if name in ("bits", "height", "width"):
        return type(value) is int
    if name in ("p", "q", "box_jitter"):
        return type(value) in (int, float)
    if name in ("epsilon", "label_epsilon"):
        return value is None or type(value) in (int, float)
    return type(value) is str


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
