"""Every generic key of a model YAML changes a size, a rate or a step, or is read where the table says."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.config.model import Model, ModelConfig, make_detector
from cross_silo.training.schedule import average_decay, bias_learning_rate, learning_rate, momentum

ROOT = Path(__file__).resolve().parents[3]

runtime.prepare()


@dataclass(frozen=True)
class NoSettings:
    pass


class Sized:
    """A detector that keeps the size it is built for."""

    def __init__(self, settings, size):
        self.size = size


def size(**values):
    return make_detector(Model(ModelConfig("d", **{"num_classes": 3, **values}), Sized, NoSettings(), "m.yaml")).size


def rates(**values):
    config = ModelConfig("d", **values)
    return [rule(config, step) for rule in (learning_rate, bias_learning_rate, momentum) for step in range(40)]


def decays(**values):
    config = ModelConfig("d", **values)
    return [average_decay(config, step) for step in range(40)]


def weights(**values):
    """A matrix and a vector after three steps on sum(noise * p) + sum(p^2)."""
    runtime.start(seed=1)
    import mindspore
    from mindspore import Parameter, Tensor, nn

    from cross_silo.training.mindspore_trainer import TrainStep
    from cross_silo.training.optimizer import make_optimizer

    class Network(nn.Cell):
        def __init__(self):
            super().__init__()
            self.matrix = Parameter(Tensor(np.ones((2, 3), np.float32)), name="matrix")
            self.vector = Parameter(Tensor(np.ones(3, np.float32)), name="vector")

        def construct(self, image, boxes, labels, valid, noise):
            parameters = self.matrix.sum() + self.vector.sum()
            loss = noise.sum() * parameters + (self.matrix**2).sum()
            return loss, loss

    config = ModelConfig("d", **values)
    network = Network()
    optimizer = make_optimizer(config, network)
    step = TrainStep(network, optimizer, config.loss_scale, config.gradient_clip).set_train()
    nothing = Tensor(np.zeros(1, np.float32))
    for number, noise in enumerate((1.0, 2.0, -3.0)):
        optimizer.set_step(number)
        step(nothing, nothing, nothing, nothing, Tensor([noise], mindspore.float32))
    return network.matrix.asnumpy().tolist(), network.vector.asnumpy().tolist()


COSINE = {"lr_schedule": "cosine", "lr_total_steps": 30}
STEPS = {"lr_schedule": "step", "lr_steps": (10,)}
CHANGED = [
    ("img_height", size, {}, 640),
    ("img_width", size, {}, 640),
    ("num_classes", size, {}, 4),
    ("num_gts", size, {}, 64),
    ("batch_size", size, {}, 4),
    ("eval_batch_size", size, {}, 4),
    ("base_lr", rates, {}, 0.1),
    ("lr_schedule", rates, {"lr_total_steps": 30}, "cosine"),
    ("lr_steps", rates, STEPS, (20,)),
    ("lr_total_steps", rates, COSINE, 20),
    ("lr_final_ratio", rates, COSINE, 0.1),
    ("warmup_step", rates, {}, 5),
    ("warmup_ratio", rates, {"warmup_step": 5}, 0.5),
    ("warmup_bias_lr", rates, {"warmup_step": 5}, 0.5),
    ("warmup_momentum", rates, {"warmup_step": 5}, 0.5),
    ("ema_decay", decays, {}, 0.99),
    ("ema_ramp_steps", decays, {"ema_decay": 0.99}, 10),
    ("optimizer", weights, {}, "sgd"),
    ("optimizer", weights, {}, "adam"),
    ("optimizer", weights, {"optimizer": "adam", "weight_decay": 0.1}, "adamw"),
    ("nesterov", weights, {}, True),
    ("momentum", weights, {}, 0.5),
    ("momentum", weights, {"optimizer": "adam"}, 0.5),
    ("weight_decay", weights, {}, 0.1),
    ("loss_scale", weights, {}, 1e38),  # overflows: scaled it is
    ("gradient_clip", weights, {}, 0.5),
]
READ = {
    "detector": "cross_silo/config/model.py",
    "seed": "cross_silo/training/mindspore_trainer.py",
    "device_target": "cross_silo/training/worker.py",
    "compile_cache": "cross_silo/training/compile_cache.py",
    "image_cache_mb": "cross_silo/training/worker.py",
    "dataset_sink_mode": "cross_silo/training/worker.py",
    "pre_trained": "cross_silo/checkpoint/init_model.py",
    "mindrecord_dir": "tools/generate_mindrecord.py",
    "instance_set": "tools/generate_mindrecord.py",
    "image_dir": "tools/generate_mindrecord.py",
}


def test_the_tables_have_every_key():
    assert {key for key, *_ in CHANGED} | set(READ) == {field.name for field in fields(ModelConfig)}


@pytest.mark.parametrize(("key", "observe", "base", "value"), CHANGED, ids=[f"{c[0]}-{c[3]}" for c in CHANGED])
def test_changes_something(key, observe, base, value):
    before = observe(**base)
    assert observe(**base) == before
    assert observe(**{**base, key: value}) != before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nesterov": True, "optimizer": "sgd"}, "nesterov is true with optimizer sgd"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov is true with optimizer momentum and momentum 0.0"),
        ({"lr_schedule": "linear"}, r"lr_total_steps is 0, expected more than warmup_step \(0\) with .* linear"),
        ({"lr_final_ratio": 0.1}, "lr_final_ratio is 0.1 with lr_schedule constant: only cosine and linear read it"),
        ({**COSINE, "lr_final_ratio": 1.5}, "lr_final_ratio is 1.5, expected 0 to 1"),
        ({"warmup_ratio": -0.1}, "warmup_ratio is -0.1, expected 0 to 1"),
        ({"warmup_bias_lr": 0.1}, "warmup_bias_lr is 0.1 with warmup_step 0"),
        ({"warmup_bias_lr": -0.1, "warmup_step": 1}, "warmup_bias_lr is -0.1, expected 0 or more"),
        ({"warmup_momentum": 0.8}, "warmup_momentum is 0.8 with warmup_step 0"),
        ({"warmup_momentum": 0.8, "warmup_step": 1, "optimizer": "adam"}, "warmup_momentum is 0.8 with .* adam"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, expected 0 to below 1"),
        ({"ema_ramp_steps": -1}, "ema_ramp_steps is -1, expected 0 or more"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_contradictions_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig("d", **values)


@pytest.mark.parametrize("key", READ)
def test_is_read(key):
    source = (ROOT / READ[key]).read_text(encoding="utf-8")
    if key in ("mindrecord_dir", "instance_set", "image_dir"):
        assert re.search(rf'CONFIG_KEYS = \(.*"{key}".*\)', source) and "CONFIG_KEYS" in source.partition("def ")[2]
    else:
        assert re.search(rf"config\.{key}\b", source)
