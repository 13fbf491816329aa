"""The optimizers against their rules in numpy, written as torch's SGD and the papers of Adam and AdamW have them."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.config.model import ModelConfig
from cross_silo.training.schedule import bias_learning_rate, learning_rate, momentum

runtime.prepare()
runtime.start(seed=1)

from mindspore import Parameter, Tensor, nn  # noqa: E402

from cross_silo.training.optimizer import make_optimizer, parameter_groups  # noqa: E402

SHAPES = {"conv.weight": (2, 3), "bn.gamma": (3,), "bn.beta": (3,), "head.bias": (2,), "temperature": ()}
BIASES = ("bn.beta", "head.bias")
STEPS = 5


class Network(nn.Cell):
    def __init__(self):
        super().__init__()
        self.frozen = Parameter(Tensor(np.ones(2, np.float32)), name="frozen.weight", requires_grad=False)
        for number, (name, shape) in enumerate(SHAPES.items()):
            value = np.random.default_rng(number).normal(size=shape).astype(np.float32)
            setattr(self, f"p{number}", Parameter(Tensor(value), name=name))


def gradient(name, step):
    return np.random.default_rng([step, *name.encode()]).normal(size=SHAPES[name])


def stepped(config, steps=STEPS):
    """Weights before and after ``steps`` steps with the optimizer."""
    network = Network()
    optimizer = make_optimizer(config, network)
    before = {p.name: p.asnumpy().astype(np.float64) for p in optimizer.parameters}
    for step in range(steps):
        optimizer.set_step(step)
        optimizer(tuple(Tensor(gradient(p.name, step).astype(np.float32)) for p in optimizer.parameters))
    return before, {p.name: p.asnumpy() for p in optimizer.parameters}


def rate(config, name, step):
    return (bias_learning_rate if name in BIASES else learning_rate)(config, step)


def sgd(config, name, w):
    """torch.optim.SGD: the buffer is the gradient at first, then m * buffer + gradient."""
    decay = config.weight_decay if w.ndim > 1 else 0.0
    buffer = None
    for step in range(STEPS):
        g = gradient(name, step) + decay * w
        m = momentum(config, step)
        buffer = g if buffer is None else m * buffer + g
        w = w - rate(config, name, step) * (g + m * buffer if config.nesterov else buffer)
    return w


def adam(config, name, w):
    decay = config.weight_decay if w.ndim > 1 else 0.0
    m, v, b1, b2 = 0.0, 0.0, config.momentum, 0.999
    for step in range(STEPS):
        g = gradient(name, step)
        if config.optimizer == "adamw":
            w = w * (1 - rate(config, name, step) * decay)
        else:
            g = g + decay * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        unbiased = m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))
        w = w - rate(config, name, step) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return w


WARM = {"warmup_step": 3, "warmup_ratio": 0.0, "warmup_bias_lr": 0.1}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, sgd),
        ({"weight_decay": 0.0}, sgd),
        ({"nesterov": True}, sgd),
        ({"nesterov": True, "warmup_momentum": 0.5, **WARM}, sgd),
        ({"optimizer": "adam"}, adam),
        ({"optimizer": "adam", **WARM}, adam),
        ({"optimizer": "adamw"}, adam),
    ],
    ids=lambda value: "-".join(map(str, value)) or "plain" if isinstance(value, dict) else "",
)
def test_steps_are_the_papers(settings, rule):
    config = ModelConfig("d", **{"base_lr": 0.05, "weight_decay": 0.1, **settings})
    before, after = stepped(config)
    assert sorted(before) == sorted(SHAPES)
    for name, w in before.items():
        np.testing.assert_allclose(after[name], rule(config, name, w), rtol=2e-5, atol=2e-6, err_msg=name)


def test_sgd_has_no_momentum():
    config = ModelConfig("d", optimizer="sgd", base_lr=0.05, weight_decay=0.0)
    before, after = stepped(config, steps=3)
    for name, w in before.items():
        expected = w - 0.05 * sum(gradient(name, step) for step in range(3))
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)


def test_the_first_warm_up_step_moves_biases_alone():
    before, after = stepped(ModelConfig("d", base_lr=0.05, **WARM), steps=1)
    for name, w in before.items():
        expected = w - 0.1 * gradient(name, 0) if name in BIASES else w
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_groups_go_by_the_names_last_part_and_the_rank():
    names = {"a.weight": 4, "a.bn.gamma": 1, "a.bn.beta": 1, "b.bias": 1, "unbias": 1, "scale": 0, "table.bias": 2}
    parameters = [Parameter(Tensor(np.ones((2,) * rank, np.float32)), name=name) for name, rank in names.items()]
    found = [[p.name for p in group] for group in parameter_groups(parameters)]
    assert found == [["a.weight"], ["a.bn.gamma", "unbias", "scale"], ["a.bn.beta", "b.bias", "table.bias"]]


@pytest.mark.parametrize(("optimizer", "moments"), [("momentum", ["moments"]), ("adamw", ["moment1", "moment2"])])
def test_the_state_is_the_moments(optimizer, moments):
    state = make_optimizer(ModelConfig("d", optimizer=optimizer), Network()).state_tensors()
    assert sorted(state) == sorted(f"{moment}.{name}" for moment in moments for name in SHAPES)
