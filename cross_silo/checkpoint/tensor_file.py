"""Named tensors in any of the formats that weights are passed on in; a file is known by its content, not its name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Mapping, Tuple, Union

import numpy as np

from cross_silo.checkpoint.file import UnreadableCheckpointError, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.info import CheckpointInfo
from cross_silo.checkpoint.pytorch import is_torch_file, read_torch, write_torch
from cross_silo.checkpoint.safetensors import is_safetensors, read_safetensors, write_safetensors
from cross_silo.errors import UserError

HEAD_BYTES = 512
"""Of a file, by which its format is known."""
CKPT, SAFETENSORS, TORCH = "MindSpore", "safetensors", "PyTorch"
FORMATS = {".ckpt": CKPT, ".safetensors": SAFETENSORS, ".pth": TORCH, ".pt": TORCH}
"""What is written, by the file name's ending."""
CLASSES = "classes"
"""Entry of a safetensors file's metadata: the class names as JSON."""


@dataclass(frozen=True)
class TensorFile:
    """What was read of a file."""

    format: str
    tensors: Dict[str, np.ndarray]
    """Read-only."""
    info: CheckpointInfo = field(default_factory=CheckpointInfo)
    """Empty but for the classes where the file is no .ckpt of this project."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Entries of the file that are no tensors of its network, and why they are not read."""


def read_tensors(path: Union[str, os.PathLike]) -> TensorFile:
    """Read MindSpore's .ckpt, .safetensors, or PyTorch's .pth and .pt, of which nothing is executed.

    Raises:
        UnreadableCheckpointError: the file cannot be read, is damaged or holds what is not read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UnreadableCheckpointError(f"{path}: {error.strerror}") from None
    if is_torch_file(head):
        found = read_torch(path)
        return TensorFile(TORCH, found.tensors, CheckpointInfo(classes=found.classes), found.left_out)
    if is_safetensors(head):
        tensors, metadata = read_safetensors(path)
        return TensorFile(SAFETENSORS, tensors, CheckpointInfo(classes=_classes(metadata)))
    tensors, info = read_checkpoint(path)
    return TensorFile(CKPT, tensors, info)


def format_of(path: Union[str, os.PathLike]) -> str:
    """Return the format that a file to be written has by its ending.

    Raises:
        UserError: no format has that ending.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: found the ending {suffix!r}; expected one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def write_tensors(path: Union[str, os.PathLike], tensors: Mapping[str, np.ndarray], info: CheckpointInfo) -> int:
    """Write ``tensors`` in the format of the path's ending, beside it, and rename; return the size in bytes.

    A .ckpt holds the whole ``info``, a .safetensors its class names, a .pth or .pt nothing of it.

    Raises:
        UserError: the ending is unknown, the format lacks a tensor's element type, or the disk refuses.
    """
    name = format_of(path)
    try:
        if name == TORCH:
            return write_torch(path, tensors)
        if name == SAFETENSORS:
            return write_safetensors(path, tensors, {CLASSES: json.dumps(info.classes)} if info.classes else {})
        return write_checkpoint(path, tensors, info)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _classes(metadata: Mapping[str, str]) -> Tuple[str, ...]:
    try:
        names = json.loads(metadata.get(CLASSES, "[]"))
    except (ValueError, RecursionError):
        return ()
    return tuple(names) if type(names) is list and all(type(name) is str for name in names) else ()
