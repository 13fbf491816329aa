"""MindSpore's trainer against plain numpy, on a network small enough to differentiate by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.config.model import ModelConfig
from cross_silo.data.batch import Batch
from cross_silo.training.schedule import learning_rate
from cross_silo.training.trainer import NonFiniteLossError

runtime.prepare()
runtime.start(seed=1)

import mindspore  # noqa: E402
from mindspore import Parameter, Tensor, nn  # noqa: E402

from cross_silo.training.mindspore_trainer import MindSporeTrainer  # noqa: E402


class Network(nn.Cell):
    """A 2x2 weight, a bias and a statistic that is not trained."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(Tensor(np.array([[1, -2], [3, 4]], np.float32)), name="weight")
        self.bias = Parameter(Tensor(np.array([0.5, -1], np.float32)), name="bias")
        self.moving_mean = Parameter(Tensor(np.zeros(3, np.float32)), name="moving_mean", requires_grad=False)


class Losses(nn.Cell):
    """fit = sum((w - m)^2) / 2 and pull = noise * sum(bias), m the mean pixel of the batch."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image, boxes, labels, valid, noise):
        mean = image.astype(mindspore.float32).mean()
        fit = ((self.network.weight - mean) ** 2).sum() / 2
        pull = noise.sum() * self.network.bias.sum()
        return fit + pull, fit, pull


class Detector:
    loss_names = ("fit", "pull")
    noise_size = 1

    def training_cell(self, network):
        return Losses(network)


class Loader:
    """Three batches an epoch; the pixels say which."""

    num_images, steps_per_epoch, wait_seconds = 3, 3, 0.0

    def epoch(self, epoch_index, first_step=0):
        for step in range(first_step, self.steps_per_epoch):
            yield Batch(
                image=np.full((1, 2, 2, 3), 10 * epoch_index + step, np.uint8),
                boxes=np.zeros((1, 1, 4), np.float32),
                labels=np.zeros((1, 1), np.int32),
                valid=np.zeros((1, 1), np.int32),
                image_ids=np.zeros(1, np.int64),
            )


def make(**settings):
    config = ModelConfig("d", **{"base_lr": 0.1, "weight_decay": 0.0, "seed": 7, **settings})
    return MindSporeTrainer(Detector(), Network(), Loader(), config, stream=3), config


def noise_of(step):
    return float(np.random.Generator(np.random.Philox(key=[7 << 32 | 3, step])).random((1, 1), np.float32)[0, 0])


def reference(config, steps):
    """Momentum by hand: v = m v + g, w = w - lr v; decay on the matrix alone; gradients clipped together."""
    w, b = np.array([[1, -2], [3, 4]], float), np.array([0.5, -1])
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for step in range(steps):
        epoch, index = divmod(step, 3)
        gw, gb = w - (10 * epoch + index), np.full(2, noise_of(step))
        if config.gradient_clip:
            norm = np.sqrt((gw**2).sum() + (gb**2).sum())
            scale = min(1.0, config.gradient_clip / norm)
            gw, gb = gw * scale, gb * scale
        vw, vb = config.momentum * vw + gw + config.weight_decay * w, config.momentum * vb + gb
        rate = learning_rate(config, step)
        w, b = w - rate * vw, b - rate * vb
    return w, b


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.1},
        {"loss_scale": 128.0},
        {"gradient_clip": 2.0},
        {"warmup_step": 3, "lr_schedule": "step", "lr_steps": (4,)},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_steps_are_those_of_numpy(settings):
    trainer, config = make(**settings)
    seen = []
    trainer.train(5, seen.append)
    w, b = reference(config, 5)
    weights = trainer.get_weights()
    np.testing.assert_allclose(weights["weight"], w, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights["bias"], b, rtol=1e-5, atol=1e-5)
    assert [record.step for record in seen] == [1, 2, 3, 4, 5]
    assert seen[0].loss == pytest.approx(seen[0].parts["fit"] + seen[0].parts["pull"], rel=1e-6)


def test_state_goes_on_as_if_never_stopped():
    whole, _ = make()
    whole.train(7, lambda record: None)
    first, _ = make()
    first.train(4, lambda record: None)
    second, _ = make()
    second.set_weights(first.get_weights())
    second.load_state(first.state(), first.step)
    second.train(3, lambda record: None)
    for name, array in whole.get_weights().items():
        np.testing.assert_array_equal(second.get_weights()[name], array)


def test_every_float_tensor_travels_with_its_kind():
    trainer, _ = make()
    assert trainer.shapes() == {"weight": (2, 2), "bias": (2,), "moving_mean": (3,)}
    assert trainer.kinds() == {"weight": "trainable", "bias": "trainable", "moving_mean": "statistic"}


def test_weights_are_copied_in():
    trainer, _ = make()
    source = {name: np.ones(np.prod(shape), np.float32) for name, shape in trainer.shapes().items()}
    trainer.set_weights(source)
    for array in source.values():
        array[:] = 9
    assert all((array == 1).all() for array in trainer.get_weights().values())


def test_a_non_finite_loss_names_its_parts():
    trainer, _ = make()
    weights = trainer.get_weights()
    trainer.set_weights({**weights, "weight": np.full(4, np.inf, np.float32)})
    with pytest.raises(NonFiniteLossError, match="step 1: total_loss: inf .*fit: inf, pull: "):
        trainer.train(3, lambda record: None)
