"""The whole way with a tiny YOLOv5: images to bits, training on them, a checkpoint that evaluates the same."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.config.model import ModelConfig, load_model, make_detector
from cross_silo.errors import UserError

runtime.prepare()
runtime.start(seed=1)

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint  # noqa: E402
from cross_silo.checkpoint.network import (  # noqa: E402
    federated_tensors,
    network_fingerprint,
    tensor_kinds,
)
from cross_silo.config.federated import Evaluation, FederatedConfig  # noqa: E402
from cross_silo.config.mistnet import MistNet  # noqa: E402
from cross_silo.data.manifest import read_manifest  # noqa: E402
from cross_silo.data.mindrecord_writer import write_shards  # noqa: E402
from cross_silo.evaluation.checkpoint_evaluation import CheckpointEvaluation  # noqa: E402
from cross_silo.mistnet.extractor import build_extract  # noqa: E402
from cross_silo.mistnet.feature_pass import Drawing, make_features  # noqa: E402
from cross_silo.mistnet.feature_trainer import Setting  # noqa: E402
from cross_silo.mistnet.feature_training import build_training, training_config  # noqa: E402
from cross_silo.mistnet.prepared import prepare  # noqa: E402
from cross_silo.mistnet.secret import Secret  # noqa: E402
from cross_silo.mistnet.trainer_files import Orders  # noqa: E402
from tests.support.coco_silo import write_silo  # noqa: E402
from tests.support.cut_network import with_statistics  # noqa: E402

CLASSES = ("five", "two")
STEPS = 12
MODEL = "base: {root}/configs/yolov5_tiny.yaml\nconf_thres: 0.0\nmosaic: 0.0\nwarmup_step: 0\nbase_lr: 0.01\n"
MODEL += "optimizer: adam\nnesterov: false\nwarmup_momentum: 0.0\nwarmup_bias_lr: 0.0\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """A setting, its trainer after some steps, what the losses were, and what measures."""
    root = tmp_path_factory.mktemp("mistnet")
    path = root / "model.yaml"
    path.write_text(MODEL.format(root=request.config.rootpath))
    model = load_model(path)
    dataset, image_dir = write_silo(root, 6, size=(64, 64), categories=((1, "five"), (2, "two")))
    write_shards(dataset, image_dir, str(root / "mindrecord_0"))
    detector = make_detector(model, len(CLASSES))
    network = with_statistics(detector.build_network())
    tensors = federated_tensors(network)
    weights = {name: tensor.asnumpy().copy() for name, tensor in tensors.items()}
    fingerprint, kinds = network_fingerprint(network), tensor_kinds(tensors)
    info = CheckpointInfo("job", "i", 0, fingerprint, "a" * 64, "", CLASSES, kinds)
    evaluation = Evaluation(str(root / "train_0.json"), image_dir)
    mistnet = MistNet(cut_layer=4, epsilon=4.0, epochs=4, evaluate_on="both", flip=0.0, crop=0.0)
    federated = FederatedConfig(fl_name="job", algorithm="mistnet", mistnet=mistnet, evaluation=evaluation)

    prepared = prepare(str(path), federated, weights, info)
    before = {name: weights[name] for name in weights if detector.is_before(name, 4)}
    extract = build_extract(detector, 4, before, 2, 64, 64)
    thresholds = np.float32(prepared.bits["thresholds"])
    drawing = Drawing(prepared.spec, thresholds, Secret(bytes(range(32))))
    silo = read_manifest(root / "mindrecord_0")
    source, target = root / "mindrecord_0", root / "features" / "silo_0"
    make_features(target, source, silo, detector.eval_transforms(), drawing, prepared.spec, extract, 2)

    orders = Orders("i", "running", str(root / "features"), {"silo_0": "silo_0"}, prepared.bits)
    (root / "run" / "feature_trainer").mkdir(parents=True)
    setting = Setting(federated, model, orders, weights, info, root / "run")
    trainer, measure = build_training(setting)
    losses = []
    trainer.set_weights(weights)
    trainer.train(STEPS, lambda record: losses.append(record.loss))
    return setting, trainer, measure, losses


def test_it_learns_and_leaves_what_is_before_the_cut(trained):
    setting, trainer, _, losses = trained
    assert trainer.num_samples == 6 and trainer.steps_per_epoch == 3
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    changed = {
        name for name, array in trainer.get_weights().items() if not np.array_equal(array, setting.weights[name])
    }
    layers = {int(name.split(".")[1]) for name in changed}
    assert layers and min(layers) >= 4 and max(layers) == 24


def test_a_checkpoint_evaluates_as_it_was_measured(trained, tmp_path):
    setting, trainer, measure, _ = trained
    found = measure(lambda: None)
    assert found["bits"] == "clean" and set(found["noisy"]) == {"AP", "AP50", "AP75"}
    info = CheckpointInfo(**{**vars(setting.info), "round": 1, "mistnet": setting.orders.bits})
    path = tmp_path / "whole.ckpt"
    write_checkpoint(path, {name: array.copy() for name, array in trainer.get_weights().items()}, info)
    from cross_silo.data.coco import read_coco

    evaluation = setting.federated.evaluation
    whole = CheckpointEvaluation(setting.model, read_coco(evaluation.annotations), evaluation.image_dir)
    again = whole.measure(path).metrics()
    assert again["num_detections"] == found["num_detections"] > 0
    assert again["AP50"] == pytest.approx(found["AP50"], abs=1e-6)


def test_a_falling_rate_falls_over_all_steps():
    federated = FederatedConfig(algorithm="mistnet", mistnet=MistNet(cut_layer=4, batch_size=16))
    config = ModelConfig("yolo", lr_schedule="cosine", lr_total_steps=10, warmup_step=5)
    changed = training_config(federated, config, 300)
    assert (changed.lr_total_steps, changed.batch_size) == (300, 16)
    assert training_config(federated, config, 2).lr_total_steps == 6
    assert training_config(federated, ModelConfig("yolo"), 300).lr_total_steps == 0


def test_a_model_that_is_not_pre_trained_is_refused(trained):
    setting = trained[0]
    with pytest.raises(UserError, match="needs a pre-trained extractor"):
        prepare(setting.model.path, setting.federated, setting.weights, CheckpointInfo(classes=CLASSES))
    with pytest.raises(UserError, match="classes are not known"):
        prepare(setting.model.path, setting.federated, setting.weights, CheckpointInfo(pre_trained_sha256="a"))
