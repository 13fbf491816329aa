"""Checkpoints in MindSpore's .ckpt format, read and written without MindSpore."""

from __future__ import annotations

from cross_silo.checkpoint.directory import (
    checkpoint_path,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
)
from cross_silo.checkpoint.file import UnreadableCheckpointError, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.info import (
    STATISTIC,
    TRAINABLE,
    CheckpointInfo,
    content_sha256,
    model_fingerprint,
)

__all__ = [
    "STATISTIC",
    "TRAINABLE",
    "CheckpointInfo",
    "UnreadableCheckpointError",
    "checkpoint_path",
    "content_sha256",
    "list_checkpoints",
    "model_fingerprint",
    "newest_checkpoint",
    "prune_checkpoints",
    "read_checkpoint",
    "write_checkpoint",
]
