"""Calibrated thresholds as a server gets them: from a child process, since MindSpore computes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Mapping

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from cross_silo.errors import UserError
from cross_silo.launch.child import run_child
from cross_silo.mistnet.spec import Cut

MODULE = "cross_silo.mistnet.calibrate"


def calibrated_thresholds(config: str, cut: Cut, tensors: Mapping[str, np.ndarray], directory: str) -> np.ndarray:
    """Return the thresholds, float32 (C,), computed in a child process.

    Args:
        config: model YAML.
        tensors: of the layers before the cut, by name.
        directory: of public images.

    Raises:
        UserError: there is no image, or the tensors are not those of the model.
    """
    if not Path(directory).is_dir():
        raise UserError(f"mistnet.calibration_images is {directory}: no such directory")
    with tempfile.TemporaryDirectory() as scratch:
        extractor, out = Path(scratch) / "extractor.ckpt", Path(scratch) / "thresholds.npy"
        write_checkpoint(extractor, tensors, CheckpointInfo())
        arguments = ["--config", config, "--cut_layer", str(cut), "--extractor", str(extractor)]
        arguments += ["--images", directory, "--out", str(out)]
        run_child(MODULE, arguments, "calibration", "thresholds could not be calibrated")
        return np.load(out, allow_pickle=False)
