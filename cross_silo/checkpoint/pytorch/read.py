"""Reads a .pth or .pt file, in either of the formats that torch.save has had."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Dict, Mapping, Tuple, Union

import numpy as np

from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.pytorch import legacy_file, zip_file
from cross_silo.checkpoint.pytorch.records import RefusedError
from cross_silo.checkpoint.pytorch.state_dict import select

TAR_MAGIC = b"ustar"
TAR_MAGIC_AT = 257


@dataclass(frozen=True)
class TorchFile:
    """What was read of a file."""

    tensors: Dict[str, np.ndarray]
    """Read-only, by the names of ``state_dict()``."""
    left_out: Mapping[str, str]
    """Other entries, and why they are not read."""
    classes: Tuple[str, ...]
    """Names of the object classes, where the file says them."""


def is_torch_file(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (512 bytes) is for :func:`read_torch`, which may refuse it still."""
    return head.startswith((zip_file.MAGIC, legacy_file.MAGIC)) or head[TAR_MAGIC_AT:].startswith(TAR_MAGIC)


def read_torch(path: Union[str, os.PathLike]) -> TorchFile:
    """Read the tensors of a state_dict or a pickled network; nothing of the file is executed.

    Raises:
        UnreadableCheckpointError: the file cannot be read, is damaged, or holds anything but tensors and plain values.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise UnreadableCheckpointError(f"{path} is empty (0 bytes)")
            mapped = zip_file.Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UnreadableCheckpointError(f"{path}: {error.strerror}") from None
    data = memoryview(mapped)
    try:
        if data[: len(zip_file.MAGIC)] == zip_file.MAGIC:
            top, storages = zip_file.read_zip(mapped)
        elif data[: len(legacy_file.MAGIC)] == legacy_file.MAGIC:
            top, storages = legacy_file.read_legacy(data)
        else:
            raise RefusedError("it is no file of torch.save, or one of PyTorch before 0.2 (a tar archive)")
        selection = select(top)
        return TorchFile(storages.arrays(selection.tensors.items()), selection.left_out, selection.classes)
    except RefusedError as error:
        raise UnreadableCheckpointError(f"{path} is refused: {error}") from None
