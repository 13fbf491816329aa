"""MindSpore's trainer against plain numpy, on a network small enough to differentiate by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.aggregation.averaging import add, divide
from cross_silo.config.model import ModelConfig
from cross_silo.data.batch import Batch
from cross_silo.errors import UserError
from cross_silo.training.schedule import average_decay, learning_rate
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


def test_compiled_before_the_first_step(monkeypatch):
    trainer, _ = make(batch_size=1, img_height=2, img_width=2, num_gts=1)
    before = trainer.get_weights()
    trainer.compile()
    after = trainer.get_weights()
    assert trainer.step == 0 and all(np.array_equal(before[name], after[name]) for name in before)
    compiled, graphs = [], type(mindspore.common.api._cell_graph_executor)
    compile_graph = graphs.compile

    def recorded(self, *args, **kwargs):
        result = compile_graph(self, *args, **kwargs)
        compiled.append(result[1])  # False where the graph was there
        return result

    monkeypatch.setattr(graphs, "compile", recorded)
    trainer.train(2, lambda record: None)
    assert compiled == [False, False]


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


EMA = {"ema_decay": 0.9, "ema_ramp_steps": 3}


def test_the_average_over_two_rounds_is_the_closed_form():
    """It weights the weights after each step, through the border between the rounds."""
    trainer, config = make(**EMA)
    seen = [trainer.get_weights()["weight"].copy()]
    for value in (None, 2.0):
        if value is not None:
            trainer.set_weights({name: np.full(shape, value, np.float32) for name, shape in trainer.shapes().items()})
        for _ in range(3):
            trainer.train(1, lambda record: None)
            seen.append(trainer.get_weights()["weight"].copy())
    decays = [average_decay(config, step) for step in range(1, 7)]
    shares = [np.prod(decays), *((1 - d) * np.prod(decays[i + 1 :]) for i, d in enumerate(decays))]
    np.testing.assert_allclose(trainer.final_weights()["weight"], np.tensordot(shares, seen, 1), rtol=1e-5)
    assert (trainer.final_weights()["moving_mean"] > 0).all()  # a statistic is averaged, too


def test_the_average_begins_at_the_first_global_model():
    trainer, _ = make(**EMA)
    trainer.set_weights({name: np.full(shape, 5, np.float32) for name, shape in trainer.shapes().items()})
    assert all((array == 5).all() for array in trainer.final_weights().values())


def test_without_an_average_the_final_weights_are_the_weights():
    trainer, _ = make()
    trainer.train(2, lambda record: None)
    for name, array in trainer.get_weights().items():
        np.testing.assert_array_equal(trainer.final_weights()[name], array)


def test_the_average_goes_on_as_if_never_stopped():
    whole, first, second = make(**EMA)[0], make(**EMA)[0], make(**EMA)[0]
    whole.train(7, lambda record: None)
    first.train(4, lambda record: None)
    second.set_weights(first.get_weights())
    second.load_state(first.state(), first.step)
    second.train(3, lambda record: None)
    for name, array in whole.final_weights().items():
        np.testing.assert_array_equal(second.final_weights()[name], array)


@pytest.mark.parametrize("settings", [EMA, {"optimizer": "adam"}], ids=["average", "optimizer"])
def test_a_state_of_other_settings_is_refused(settings):
    with pytest.raises(UserError, match="no tensor '(average.weight|moment1.weight)'; expected the optimizer and ema"):
        make(**settings)[0].load_state(make()[0].state(), 3)


class Normalised(nn.Cell):
    """Batch norm of the pixels."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3, momentum=0.5)

    def construct(self, image, boxes, labels, valid, noise):
        out = self.bn(image.transpose(0, 3, 1, 2).astype(mindspore.float32))
        return out.mean(), noise.sum() * 0


class NormalisedDetector(Detector):
    loss_names = ("mean",)

    def training_cell(self, network):
        return network


def test_batch_norm_statistics_federate():
    """Two silos' moving means and variances after a round are averaged by their samples, and go on from there."""
    config = ModelConfig("d", base_lr=0.1, weight_decay=0.0)
    silos = [MindSporeTrainer(NormalisedDetector(), Normalised(), Loader(), config, stream) for stream in range(2)]
    samples, sizes = (1, 3), {}
    for first, silo in zip((0, 3), silos):  # batches whose pixels are all 0, 1, 2 and 10, 11, 12
        silo.step = first
        assert silo.kinds()["bn.moving_mean"] == silo.kinds()["bn.moving_variance"] == "statistic"
        silo.train(3, lambda record: None)
        sizes = {name: array.size for name, array in silo.get_weights().items()}
    total = {name: np.empty(size, np.float32) for name, size in sizes.items()}
    for place, (silo, weight) in enumerate(zip(silos, samples)):
        add(total, {n: w.reshape(-1) * np.float32(weight) for n, w in silo.get_weights().items()}, first=place == 0)
    divide(total, sum(samples))
    expected_means = [0.5 * (0.5**2 * a + 0.5 * b + c) for a, b, c in ((0, 1, 2), (10, 11, 12))]
    mean = (expected_means[0] + 3 * expected_means[1]) / 4
    np.testing.assert_allclose(total["bn.moving_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(total["bn.moving_variance"], 0.5**3, atol=1e-6)  # pixels of a batch do not vary
    for silo in silos:
        silo.set_weights(total)
        pixel = 10 * (silo.step // 3) + silo.step % 3
        silo.train(1, lambda record: None)
        np.testing.assert_allclose(silo.get_weights()["bn.moving_mean"], (mean + pixel) / 2, rtol=1e-5)


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
