"""A checkpoint against the model YAML that it must be of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from cross_silo.checkpoint.check_model import main
from cross_silo.checkpoint.network import federated_tensors
from cross_silo.config.model import load_model, make_detector
from cross_silo.errors import UserError

TINY = Path(__file__).resolve().parents[3] / "configs" / "faster_rcnn_tiny.yaml"


@pytest.fixture(scope="module")
def weights():
    tensors = federated_tensors(make_detector(load_model(TINY), 2).build_network())
    return {name: tensor.asnumpy() for name, tensor in tensors.items()}


def check(tmp_path, weights, classes):
    path = tmp_path / "c.ckpt"
    write_checkpoint(path, weights, CheckpointInfo(classes=classes))
    return main(["--config", str(TINY), "--checkpoint", str(path)])


def test_its_own_model(tmp_path, weights):
    assert check(tmp_path, weights, ("a", "b")) == 0


def test_other_tensors_are_named(tmp_path, weights):
    with pytest.raises(UserError, match="of another model: .*box_head"):
        check(tmp_path, weights, ("a", "b", "c"))
    first = next(iter(weights))
    with pytest.raises(UserError, match=f"of another model: tensor '{first}' has shape"):
        check(tmp_path, {**weights, first: np.zeros(3, np.float32)}, ("a", "b"))
