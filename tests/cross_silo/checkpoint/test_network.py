"""Loading a checkpoint into a network, and refusing another model's."""

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo
from cross_silo.checkpoint.network import load_weights, network_fingerprint
from cross_silo.errors import UserError
from tests.support.tiny_detector import Detector, Settings


def test_a_network_takes_its_checkpoint_and_no_other():
    network = Detector(Settings(channels=4), None).build_network()
    weights = {p.name: np.full(p.shape, 2, np.float32) for p in network.get_parameters() if p.name != "counter"}
    load_weights(network, weights, CheckpointInfo(fingerprint=network_fingerprint(network)), "a.ckpt")
    assert all((p.asnumpy() == 2).all() for p in network.get_parameters() if p.name != "counter")
    other = Detector(Settings(channels=5), None).build_network()
    with pytest.raises(UserError, match=r"a\.ckpt is of another model: tensor 'conv.weight' has shape \(4, 3, 3, 3\)"):
        load_weights(other, weights, CheckpointInfo(), "a.ckpt")
    with pytest.raises(UserError, match="fingerprint ffff"):
        load_weights(network, weights, CheckpointInfo(fingerprint="f" * 64), "a.ckpt")
    del weights["threshold"]
    with pytest.raises(UserError, match="no tensor 'threshold'"):
        load_weights(network, weights, CheckpointInfo(), "a.ckpt")
