"""The job that a server serves: its settings, its model's description, and where its checkpoints go."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from pathlib import Path
from typing import Dict, Mapping, Tuple

import numpy as np

from cross_silo.checkpoint import (
    TRAINABLE,
    CheckpointInfo,
    checkpoint_path,
    content_sha256,
    model_fingerprint,
    write_checkpoint,
)
from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError

log = logging.getLogger(__name__)


class Job:
    """Settings, model description and instance; the instance and some settings change when a job begins anew."""

    def __init__(
        self,
        config: FederatedConfig,
        weights: Mapping[str, np.ndarray],
        info: CheckpointInfo,
        checkpoint_dir: Path,
        instance: str,
    ) -> None:
        """Describe a job.

        Args:
            weights: the model to begin with; only float32 tensors take part.
            info: what its checkpoint says; what is missing is filled in.
            instance: id of this run of the job.

        Raises:
            UserError: there is no float32 tensor.
        """
        self.config = config
        self.instance = instance
        self.checkpoint_dir = checkpoint_dir
        self.shapes: Dict[str, Tuple[int, ...]] = {}
        for name, tensor in weights.items():
            if tensor.dtype == np.float32:
                self.shapes[name] = tuple(tensor.shape)
            else:
                log.warning("tensor %s is %s: it does not take part", name, tensor.dtype)
        if not self.shapes:
            raise UserError(f"the checkpoint in {checkpoint_dir} has no float32 tensor")
        self.sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in self.shapes.items()}
        kinds = {name: info.kinds.get(name, TRAINABLE) for name in self.shapes}
        initial = info.initial_sha256
        if not initial and info.round == 0:
            initial = content_sha256({name: weights[name] for name in self.shapes})
        self.info = dataclasses.replace(
            info,
            fl_name=config.fl_name,
            instance=instance,
            kinds=kinds,
            fingerprint=model_fingerprint(self.shapes, kinds),
            initial_sha256=initial,
        )

    @property
    def model_bytes(self) -> int:
        """Bytes of the model's values."""
        return 4 * sum(self.sizes.values())

    def save(self, round: int, tensors: Mapping[str, np.ndarray]) -> str:
        """Write the checkpoint of good round ``round`` durably; return its path. OSError where the disk refuses."""
        path = checkpoint_path(self.checkpoint_dir, self.config.fl_name, round, datetime.datetime.now())
        info = dataclasses.replace(self.info, round=round, instance=self.instance)
        write_checkpoint(path, tensors, info, shapes=self.shapes)
        return str(path)
