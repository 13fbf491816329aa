"""The model that a server begins with: its newest usable checkpoint, or a new initial one made by a child process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, list_checkpoints, newest_checkpoint, read_checkpoint
from cross_silo.errors import UserError
from cross_silo.launch.child import run_child

log = logging.getLogger(__name__)

INIT_MODULE = "cross_silo.checkpoint.init_model"
CHECK_MODULE = "cross_silo.checkpoint.check_model"


def find_model(
    directory: Path, fl_name: str, yaml_config: str, config: Optional[str], pre_trained: str
) -> Tuple[Dict[str, np.ndarray], CheckpointInfo]:
    """Return tensors and info of the checkpoint to begin with.

    Args:
        config: the model YAML that the checkpoint must be of, and that an initial model is made from where
            ``directory`` has none; None: nothing is checked, and none is made.
        pre_trained: checkpoint that the initial model is filled from; empty: what the model YAML says.

    Raises:
        UserError: there is no checkpoint, none that can be read, or one of another model.
    """
    path = newest_checkpoint(directory, fl_name)
    if path is None and list_checkpoints(directory, fl_name):
        raise UserError(f"--checkpoint_dir {directory}: every checkpoint of job {fl_name!r} is damaged")
    if path is None:
        if config is None:
            raise UserError(
                f"--checkpoint_dir {directory} has no checkpoint of job {fl_name!r}; make the initial model with: "
                f"python tools/init_model.py --config MODEL.yaml --checkpoint_dir {directory} --fl_name {fl_name}"
            )
        _make(directory, fl_name, yaml_config, config, pre_trained)
        path = newest_checkpoint(directory, fl_name)
        if path is None:
            raise UserError(f"--checkpoint_dir {directory}: {INIT_MODULE} left no checkpoint of job {fl_name!r}")
    elif config is not None:
        _run(CHECK_MODULE, ["--config", config, "--checkpoint", str(path)], f"--config {config}")
    tensors, info = read_checkpoint(path)
    log.info("model of round %d from %s", info.round, path)
    return tensors, info


def _make(directory: Path, fl_name: str, yaml_config: str, config: str, pre_trained: str) -> None:
    """Make the initial model."""
    arguments = ["--config", config, "--checkpoint_dir", str(directory), "--fl_name", fl_name]
    arguments += ["--yaml_config", yaml_config]
    if pre_trained:
        arguments += ["--pre_trained", pre_trained]
    log.info("no checkpoint yet: making the initial model from %s", config)
    _run(INIT_MODULE, arguments, "the initial model could not be made")


def _run(module: str, arguments: List[str], failure: str) -> None:
    """Run ``module`` in a process of its own, so that this one never imports MindSpore. Raises UserError."""
    run_child(module, arguments, "initial model", failure)
