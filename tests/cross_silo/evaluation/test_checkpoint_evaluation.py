"""Checkpoints of one model measured one after the other."""

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, UnreadableCheckpointError, write_checkpoint
from cross_silo.config.model import load_model
from cross_silo.data.coco import read_coco
from cross_silo.errors import UserError
from cross_silo.evaluation.checkpoint_evaluation import CheckpointEvaluation
from tests.support.colour_squares import write_set


@pytest.fixture
def evaluation(tmp_path):
    (tmp_path / "model.yaml").write_text(
        "detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\neval_batch_size: 2\n"
    )
    dataset = read_coco(write_set(tmp_path))
    return CheckpointEvaluation(load_model(tmp_path / "model.yaml"), dataset, tmp_path / "images")


def checkpoint(path, threshold, classes=()):
    shapes = {"conv.weight": (4, 3, 3, 3), "threshold": ()}
    shapes.update({f"bn.{name}": (4,) for name in ("gamma", "beta", "moving_mean", "moving_variance")})
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights["threshold"] = np.array(threshold, np.float32)
    write_checkpoint(path, weights, CheckpointInfo(classes=classes))
    return path


def test_the_weights_of_each_checkpoint_decide(tmp_path, evaluation):
    good = checkpoint(tmp_path / "good.ckpt", 200, ("red", "green", "blue"))
    blind = checkpoint(tmp_path / "blind.ckpt", 300)
    for path, expected in ((good, 1.0), (blind, 0.0), (good, 1.0)):
        measured = evaluation.measure(path)
        metrics = measured.metrics()
        assert metrics["AP"] == metrics["AP50"] == metrics["AP75"] == pytest.approx(expected)
        assert metrics["classes"]["green"] == {"AP": pytest.approx(expected), "AP50": pytest.approx(expected)}
        assert metrics["num_images"] == 5 and metrics["num_detections"] == len(measured.detections) == 15 * expected
        assert metrics["APl"] is None and metrics["seconds"] > 0


def test_other_checkpoints_are_refused(tmp_path, evaluation):
    with pytest.raises(UserError, match="its classes are red, blue, those of"):
        evaluation.measure(checkpoint(tmp_path / "a.ckpt", 200, ("red", "blue")))
    with pytest.raises(UserError, match="another model"):
        evaluation.measure(checkpoint(tmp_path / "a.ckpt", [200, 200]))
    (tmp_path / "a.ckpt").write_bytes(b"?")
    with pytest.raises(UnreadableCheckpointError):
        evaluation.measure(tmp_path / "a.ckpt")


def test_a_missing_image_directory_is_named_at_once(tmp_path, evaluation):
    model, dataset = load_model(tmp_path / "model.yaml"), read_coco(tmp_path / "annotations.json")
    with pytest.raises(UserError, match="image_dir .*nowhere"):
        CheckpointEvaluation(model, dataset, tmp_path / "nowhere")


def test_a_measurement_can_be_ended_between_batches(tmp_path):
    dataset = read_coco(write_set(tmp_path / "set"))
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\n")
    batches = []

    def before_batch():
        batches.append(len(batches))
        if len(batches) == 2:
            raise SystemExit(0)

    model = load_model(tmp_path / "model.yaml")
    evaluation = CheckpointEvaluation(model, dataset, tmp_path / "set" / "images", before_batch)
    with pytest.raises(SystemExit):
        evaluation.measure(checkpoint(tmp_path / "a.ckpt", 200))
    assert len(batches) == 2
