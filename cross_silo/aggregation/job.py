"""The job that a server serves: its settings, its model's description, and where its checkpoints go."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Container, Dict, Mapping, Set, Tuple

import numpy as np

import cross_silo
from cross_silo.checkpoint import (
    TRAINABLE,
    CheckpointInfo,
    checkpoint_path,
    content_sha256,
    list_checkpoints,
    model_fingerprint,
    write_checkpoint,
)
from cross_silo.checkpoint.best import best_files
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
        self.started = time.time()
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
        write_checkpoint(path, {name: tensors[name] for name in self.shapes}, info, shapes=self.shapes)
        return str(path)

    def fields(self) -> Dict[str, Any]:
        """Return what Redis and the summary are told of the job once."""
        return {
            "fl_name": self.config.fl_name,
            "instance": self.instance,
            "engine": self.config.engine,
            "fl_iteration_num": self.config.fl_iteration_num,
            "fingerprint": self.info.fingerprint,
            "model_bytes": self.model_bytes,
            "started": self.started,
            "settings": json.dumps(dataclasses.asdict(self.config)),
            "versions": json.dumps(versions()),
        }

    def awaiting_evaluation(self, evaluated: Container[int]) -> Set[int]:
        """Return the rounds with a checkpoint that are to be evaluated and are not yet."""
        rounds = {round for round, _ in list_checkpoints(self.checkpoint_dir, self.config.fl_name)}
        last, every = self.config.fl_iteration_num, self.config.evaluation.every
        return {round for round in rounds if (round == last or round % every == 0) and round not in evaluated}

    def begin_anew(self, config: FederatedConfig, instance: str, tensors: Mapping[str, np.ndarray]) -> None:
        """Become a new instance whose round 0 is ``tensors``; earlier checkpoints move to a directory of their own.

        Raises:
            OSError: the disk refuses; the job is as it was.
        """
        earlier = list_checkpoints(self.checkpoint_dir, self.config.fl_name)
        aside = self.checkpoint_dir / f"instance_{self.instance}"
        before = self.instance, self.info
        self.instance = instance
        self.info = dataclasses.replace(
            self.info, instance=instance, initial_sha256=content_sha256(tensors), pre_trained_sha256=""
        )
        try:
            aside.mkdir(exist_ok=True)
            initial = self.save(0, tensors)
        except OSError:
            self.instance, self.info = before
            raise
        for _, path in earlier:
            if str(path) != initial:  # an earlier round 0 of the same second has been replaced
                path.rename(aside / path.name)
        for path in best_files(self.checkpoint_dir, self.config.fl_name):
            if path.is_file():
                path.rename(aside / path.name)
        self.config = config
        self.started = time.time()


def versions() -> Dict[str, str]:
    """Return the versions that a job's results depend on; MindSpore's without importing it."""
    installed = {"python": platform.python_version(), "cross_silo": cross_silo.__version__}
    for name in ("mindspore", "numpy"):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a server needs no MindSpore
            continue
    return installed


def changed_settings(config: FederatedConfig, changes: Mapping[str, Any]) -> FederatedConfig:
    """Return ``config`` with ``changes`` of its hyper-parameters.

    Raises:
        ValueError: a name that is none, or a value that contradicts the other settings.
    """
    sections = {"round": config.round, "client": config.client}
    changed: Dict[str, Any] = {}
    for name, value in changes.items():
        if name == "fl_iteration_num":
            changed[name] = value
            continue
        section = next((key for key, settings in sections.items() if hasattr(settings, name)), None)
        if section is None:
            raise ValueError(f"unknown setting {name!r}")
        changed[section] = dataclasses.replace(changed.get(section, sections[section]), **{name: value})
    return dataclasses.replace(config, **changed)
