"""The file that a silo gets of the model: tensors before the cut and thresholds, as a checkpoint holds tensors."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Dict, Mapping, Tuple

import numpy as np

from cross_silo.checkpoint import content_sha256, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.info import CheckpointInfo
from cross_silo.errors import UserError
from cross_silo.mistnet.spec import FeatureSpec

THRESHOLDS = "mistnet.thresholds"
"""Name of the thresholds among the tensors: float32 (C,)."""


def extractor_bytes(tensors: Mapping[str, np.ndarray], thresholds: np.ndarray) -> bytes:
    """Return the file's content."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "extractor.ckpt"
        write_checkpoint(path, {**tensors, THRESHOLDS: np.float32(thresholds)}, CheckpointInfo())
        return path.read_bytes()


def read_extractor(path: Path, spec: FeatureSpec) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """Return tensors and thresholds of the file at ``path``.

    Raises:
        UserError: it cannot be read, or is not the extractor of ``spec``.
    """
    tensors, _ = read_checkpoint(path)
    thresholds = tensors.pop(THRESHOLDS, None)
    if thresholds is None or thresholds_sha256(thresholds) != spec.thresholds_sha256:
        raise UserError(f"{path}: its thresholds are not the job's")
    if content_sha256(tensors) != spec.extractor_sha256:
        raise UserError(f"{path}: its tensors are not those of the job's extractor {spec.extractor_sha256[:12]}")
    return tensors, thresholds


def thresholds_sha256(thresholds: np.ndarray) -> str:
    """Return the hash by which thresholds are agreed on."""
    return hashlib.sha256(np.ascontiguousarray(thresholds, "<f4").tobytes()).hexdigest()
