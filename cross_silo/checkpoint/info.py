"""What a checkpoint says beside its tensors: job, round, model; and the sums that identify a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping, Sequence, Tuple

import numpy as np

TRAINABLE = "trainable"
"""Kind of a tensor that an optimizer changes."""
STATISTIC = "statistic"
"""Kind of every other tensor of a network, such as batch normalisation's moving mean."""


@dataclass(frozen=True)
class CheckpointInfo:
    """Stands in a checkpoint of a job; all empty in a file that something else wrote."""

    fl_name: str = ""
    """The job."""
    instance: str = ""
    """The run of the job: another one after the job was begun anew."""
    round: int = 0
    """The good round that made this model; 0: the initial one."""
    fingerprint: str = ""
    """:func:`model_fingerprint` of the tensors."""
    pre_trained_sha256: str = ""
    """Of the file that filled the initial model; empty: none."""
    initial_sha256: str = ""
    """:func:`content_sha256` of the job's initial model."""
    classes: Tuple[str, ...] = ()
    """Names of the object classes, by index."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """From a tensor's name to :data:`TRAINABLE` or :data:`STATISTIC`."""
    mistnet: Mapping[str, Any] = field(default_factory=dict)
    """Of a model that was trained from bits: ``cut``, where they are taken, and ``thresholds``, a number a channel."""

    def to_json(self) -> str:
        """Return the text that :meth:`from_json` reads."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "CheckpointInfo":
        """Return what ``text`` says; fields of a later version are passed over.

        Raises:
            ValueError: ``text`` is no JSON object, or a field has a wrong type.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("expected a JSON object")
        known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        known["classes"] = tuple(_checked("classes", known.get("classes", []), list))
        known["kinds"] = _checked("kinds", known.get("kinds", {}), dict)
        if _checked("mistnet", known.setdefault("mistnet", {}), dict):
            _check_bits(**known["mistnet"])
        for name, value in known.items():
            if name not in ("classes", "kinds", "mistnet"):
                _checked(name, value, int if name == "round" else str)
        if not all(isinstance(item, str) for item in known["classes"]):
            raise ValueError("classes: expected names")
        if not all(kind in (TRAINABLE, STATISTIC) for kind in known["kinds"].values()):
            raise ValueError(f"kinds: expected {TRAINABLE} or {STATISTIC}")
        return cls(**known)


def _checked(name: str, value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise ValueError(f"{name} is {value!r}, expected {expected.__name__}")
    return value


def _check_bits(cut: Any = None, thresholds: Any = None, **_: Any) -> None:
    if type(cut) not in (int, str):
        raise ValueError(f"mistnet.cut is {cut!r}, expected a layer's number or name")
    if not all(type(value) in (int, float) for value in _checked("mistnet.thresholds", thresholds, list)):
        raise ValueError("mistnet.thresholds: expected numbers")


def model_fingerprint(shapes: Mapping[str, Sequence[int]], kinds: Mapping[str, str]) -> str:
    """Return a sha256 (hex) that two models share exactly when names, shapes and kinds of all tensors agree.

    Args:
        shapes: from a tensor's name to its shape; every tensor is float32.
        kinds: from a tensor's name to its kind.
    """
    lines = [[name, [int(size) for size in shapes[name]], "float32", kinds[name]] for name in sorted(shapes)]
    return hashlib.sha256(json.dumps(lines, separators=(",", ":")).encode()).hexdigest()


def content_sha256(weights: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 (hex) of names and values; flat and shaped arrays of the same values agree."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(json.dumps([name, array.dtype.str, array.nbytes]).encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()
