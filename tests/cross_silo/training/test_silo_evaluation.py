"""Measuring the network that is being trained: right numbers, and nothing of the training changes."""

import json

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.config.model import ModelConfig
from cross_silo.data.batch import Batch
from cross_silo.data.coco import read_coco
from cross_silo.detector import InputSize
from cross_silo.errors import UserError
from cross_silo.training.silo_evaluation import make_measure, read_validation
from faster_rcnn import Detector
from faster_rcnn.settings import Settings
from tests.support.colour_squares import NAMES, write_set

SETTINGS = Settings(
    backbone="resnet18", width=4, freeze_at=0, frozen_batch_norm=False, fpn_out_channels=8, neck_norm=True,
    anchor_scales=(4,), rpn_proposal_nms_pre=10, rpn_proposal_max_num=10, rpn_nms_pre=10, rpn_max_num=10,
    num_expected_pos=8, num_expected_neg=16, num_expected_pos_stage2=8, num_expected_total_stage2=16,
    rcnn_fc_out_channels=16,
)  # fmt: skip


class Loader:
    """The same batch again and again."""

    num_images, steps_per_epoch, wait_seconds = 2, 4, 0.0

    def epoch(self, epoch_index, first_step=0):
        rng = np.random.default_rng(0)
        for _ in range(first_step, self.steps_per_epoch):
            yield Batch(
                image=rng.integers(0, 255, (2, 64, 64, 3), np.uint8),
                boxes=np.tile(np.float32([[[4, 4, 30, 30]]]), (2, 1, 1)),
                labels=np.zeros((2, 1), np.int32),
                valid=np.ones((2, 1), np.int32),
                image_ids=np.zeros(2, np.int64),
            )


def train(monkeypatch, dataset, images):
    """Train 2 + 2 steps, with two measurements between and one after; return steps, tensors, compiled graphs."""
    from cross_silo.evaluation.network_evaluation import NetworkEvaluation
    from cross_silo.training.mindspore_trainer import MindSporeTrainer

    runtime.start(seed=1)
    import mindspore
    from mindspore.common import api

    compiled = []
    inner = api._CellGraphExecutor.compile

    def compile(self, cell, *args, **kwargs):
        result = inner(self, cell, *args, **kwargs)
        if result[1]:
            compiled.append(type(cell).__name__)
        return result

    monkeypatch.setattr(api._CellGraphExecutor, "compile", compile)
    mindspore.set_seed(1)
    np.random.seed(1)
    detector = Detector(SETTINGS, InputSize(3, 64, 64, 2, 2, 1))
    network = detector.build_network()
    config = ModelConfig("faster_rcnn", img_height=64, img_width=64, base_lr=0.01)
    rng = np.random.default_rng(5)
    trainer = MindSporeTrainer(detector, network, Loader(), config, stream=0)
    trainer.set_weights(
        {name: array + rng.normal(0, 0.05, array.shape).astype(np.float32) ** 2
         for name, array in sorted(trainer.get_weights().items())}
    )  # fmt: skip
    measure = make_measure(NetworkEvaluation(detector, network, config, dataset, images)) if dataset else None
    losses, measured = [], []
    for _ in range(2):
        trainer.train(2, lambda record: losses.append(record.loss))
        if measure:
            measured += [measure(lambda: None), measure(lambda: None)]
            assert network.training
    return losses, {**trainer.get_weights(), **trainer.state()}, compiled, measured


def test_training_goes_on_bit_for_bit_and_each_graph_compiles_once(tmp_path, monkeypatch):
    dataset = read_coco(write_set(tmp_path))
    # the same initial weights: MindSpore's initialisers draw from a generator of their own
    losses, tensors, compiled, measured = train(monkeypatch, dataset, tmp_path / "images")
    assert sorted(compiled) == ["DetectionCell", "TrainStep"], compiled
    assert set(measured[0]) == {"AP", "AP50", "AP75"} and measured[0] == measured[1]
    alone_losses, alone, _, _ = train(monkeypatch, None, None)
    assert losses == alone_losses
    for name, array in alone.items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)


def test_a_silo_without_a_set():
    assert read_validation("", "", NAMES) is None


def test_a_set_is_checked_before_the_worker_takes_part(tmp_path):
    path = write_set(tmp_path)
    assert len(read_validation(str(path), str(tmp_path / "images"), NAMES).images) == 5
    with pytest.raises(UserError, match="its classes are red, green, blue, those of the training data red, blue"):
        read_validation(str(path), str(tmp_path / "images"), ("red", "blue"))
    with pytest.raises(UserError, match=r"has no 1\.png \(image 1\)"):
        read_validation(str(path), str(tmp_path), NAMES)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match="has no objects"):
        read_validation(str(path), str(tmp_path / "images"), NAMES)
