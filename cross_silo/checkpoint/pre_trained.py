"""What a pre-trained checkpoint fills of a network, what it does not, and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from cross_silo.checkpoint.tensor_file import read_tensors
from cross_silo.errors import UserError

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint to start from; an empty path: none."""

    path: str
    sha256: str
    """Of the file."""
    tensors: Mapping[str, np.ndarray]
    classes: Tuple[str, ...] = ()
    """Names of its object classes, where the file says them."""

    @classmethod
    def read(cls, path: str) -> "Pretrained":
        """Read the file at ``path``; an empty path gives an empty object.

        Raises:
            UserError: the file cannot be read, is damaged or holds what is not read.
        """
        if not path:
            return cls("", "", {})
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"--pre_trained {path}: {error.strerror}") from None
        found = read_tensors(path)
        return cls(path, digest.hexdigest(), found.tensors, found.info.classes)


@dataclass(frozen=True)
class Matching:
    """Which tensors of a pre-trained checkpoint fill which of ours."""

    values: Dict[str, np.ndarray] = field(default_factory=dict)
    """By our name."""
    unknown: List[str] = field(default_factory=list)
    """Names in the checkpoint that the detector has no place for."""
    absent: List[str] = field(default_factory=list)
    """Names in the checkpoint whose place this network does not have, such as the layers of a deeper one."""
    misshapen: Dict[str, str] = field(default_factory=dict)
    """Our name, and the checkpoint's with both shapes, where only the name agrees."""


def unchanged(name: str, value: np.ndarray) -> np.ndarray:
    """Return ``value``: the checkpoints of most detectors have our layout."""
    return value


def match(
    pre_trained: Pretrained,
    shapes: Mapping[str, Shape],
    rename: Callable[[str], Optional[str]],
    convert: Callable[[str, np.ndarray], np.ndarray] = unchanged,
) -> Matching:
    """Match by ``rename`` (the detector's ``map_pretrained``) and shape, after ``convert`` (``pretrained_value``).

    Raises:
        UserError: nothing matches, or two tensors would fill the same one.
    """
    matching = Matching()
    sources: Dict[str, str] = {}
    for name, value in pre_trained.tensors.items():
        ours = rename(name)
        if ours is None:
            matching.unknown.append(name)
        elif ours not in shapes:
            matching.absent.append(name)
        elif ours in sources:
            raise UserError(f"--pre_trained {pre_trained.path}: {sources[ours]!r} and {name!r} both fill {ours!r}")
        else:
            sources[ours] = name
            converted = convert(name, value)
            if converted.shape == shapes[ours]:
                matching.values[ours] = np.asarray(converted, np.float32)
            else:
                matching.misshapen[ours] = f"{name} has shape {converted.shape}, expected {shapes[ours]}"
    if not matching.values:
        first = next(iter(matching.misshapen.items()), None)
        raise UserError(
            f"--pre_trained {pre_trained.path}: none of its {len(pre_trained.tensors)} tensors "
            f"(such as {next(iter(pre_trained.tensors))!r}) matches the network's (such as {next(iter(shapes))!r})"
            + (f"; {first[0]}: {first[1]}" if first else "")
        )
    return matching


def class_tensors(shapes: Mapping[str, Shape], with_another_number: Mapping[str, Shape]) -> List[str]:
    """Return the tensors whose shape depends on the number of classes.

    Args:
        shapes: of the network.
        with_another_number: of the same network for another number of classes.
    """
    return [name for name, shape in shapes.items() if with_another_number.get(name) != shape]


def class_note(pre_trained: Pretrained, classes: Tuple[str, ...], number: int, anew: Collection[str]) -> str:
    """Return one line about the class layers, or an empty one where there is nothing to say.

    Args:
        classes: names of this model's classes; empty where nothing says them.
        number: of this model's classes.
        anew: class layers that are newly initialised because their shape in the checkpoint is another.
    """
    theirs = pre_trained.classes
    found = f"the checkpoint has {len(theirs)} classes ({', '.join(theirs)})" if theirs else "the checkpoint has others"
    if anew:
        return f"{', '.join(anew)}: made anew for {number} classes; {found}"
    if theirs and classes and theirs != classes:
        return f"filled in the checkpoint's order of classes: {found}, this model {', '.join(classes)}"
    return ""


def filled_by_part(shapes: Mapping[str, Shape], filled: Collection[str]) -> Dict[str, Tuple[int, int]]:
    """Return (tensors filled, tensors in all) of each part of the network, a part being a name's first word."""
    totals = Counter(name.partition(".")[0] for name in shapes)
    counts = Counter(name.partition(".")[0] for name in filled)
    return {part: (counts[part], total) for part, total in totals.items()}


def few(names: Sequence[str]) -> str:
    """Return how many names there are, and the first of them."""
    shown = ", ".join(names[:3])
    return f"{len(names)}" + (f": {shown}" + (", ..." if len(names) > 3 else "") if names else "")
