"""SGD with momentum, Adam and AdamW over three groups of parameters: weights, normalisation, biases.

Weights alone decay; biases have a warm-up of their own (as the public YOLOv5 recipes have it, batch norm's beta is a
bias). The rules are torch's: a momentum accumulates gradients, not steps, so that a changed learning rate counts at
once (Sutskever et al. 2013 in the form of torch.optim.SGD; Kingma and Ba 2015; Loshchilov and Hutter 2019).
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import mindspore
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from cross_silo.config.model import ModelConfig
from cross_silo.training import schedule

BETA2 = 0.999
"""Decay of Adam's mean of squares."""
EPSILON = 1e-8
"""Added to the root of Adam's mean of squares, before that root's correction (Kingma and Ba, end of section 2)."""


class Optimizer(nn.Cell):
    """What the optimizers share: groups, rates by step, moments. Called with a gradient for each of ``parameters``."""

    def __init__(self, config: ModelConfig, parameters: Sequence[Parameter], moments: Sequence[str]) -> None:
        """Group ``parameters``; each has a moment of each name in ``moments``, which begin with zeros."""
        super().__init__(auto_prefix=False)
        weights, norms, biases = parameter_groups(parameters)
        self.parameters = ParameterTuple([*weights, *norms, *biases])
        self.num_biases = len(biases)
        self.num_others = len(weights) + len(norms)
        self.decays = (config.weight_decay,) * len(weights) + (0.0,) * (len(norms) + len(biases))
        self.rate = _scalar("learning_rate")
        self.bias_rate = _scalar("bias_learning_rate")
        self.moments = [self.parameters.clone(prefix=name, init="zeros") for name in moments]
        self._config = config

    def set_step(self, step: int) -> None:
        """Use the rates of step ``step``; the first is 0."""
        _set(self.rate, schedule.learning_rate(self._config, step))
        _set(self.bias_rate, schedule.bias_learning_rate(self._config, step))

    def state_tensors(self) -> Dict[str, Parameter]:
        """Return the moments by name: with the step number all that the next step depends on."""
        return {tensor.name: tensor for tensors in self.moments for tensor in tensors}


class Momentum(Optimizer):
    """v = m v + g, w -= lr v, or with Nesterov w -= lr (g + m v); the decay is part of g.

    Nesterov's step is made of two, as MindSpore's kernel for CPUs ignores ``use_nesterov`` (2.10).
    """

    def __init__(self, config: ModelConfig, parameters: Sequence[Parameter]) -> None:
        super().__init__(config, parameters, ("moments",))
        self.momentum = _scalar("momentum")
        self.velocities = self.moments[0]
        self.nesterov = config.nesterov
        self.update = ops.ApplyMomentum()
        self.descend = ops.ApplyGradientDescent()

    def set_step(self, step: int) -> None:
        super().set_step(step)
        _set(self.momentum, schedule.momentum(self._config, step) if self._config.optimizer == "momentum" else 0.0)

    def construct(self, gradients):
        rates = (self.rate,) * self.num_others + (self.bias_rate,) * self.num_biases
        if not self.nesterov:
            step = ops.partial(_momentum_step, self.update, self.momentum)
            return ops.HyperMap()(step, self.decays, rates, gradients, self.parameters, self.velocities)
        ahead = (self.rate * self.momentum,) * self.num_others + (self.bias_rate * self.momentum,) * self.num_biases
        step = ops.partial(_nesterov_step, self.update, self.descend, self.momentum)
        return ops.HyperMap()(step, self.decays, rates, ahead, gradients, self.parameters, self.velocities)


class Adam(Optimizer):
    """Adam; its decay is part of the gradient, or with ``apart`` (AdamW) shrinks the weight by lr * decay."""

    def __init__(self, config: ModelConfig, parameters: Sequence[Parameter], apart: bool) -> None:
        super().__init__(config, parameters, ("moment1", "moment2"))
        self.means, self.squares = self.moments
        self.beta1_power = _scalar("beta1_power")
        self.beta2_power = _scalar("beta2_power")
        self.beta1 = Tensor(config.momentum, mindspore.float32)
        self.beta2 = Tensor(BETA2, mindspore.float32)
        self.epsilon = Tensor(EPSILON, mindspore.float32)
        self.update = ops.Adam()
        self.rule = _adamw_step if apart else _adam_step

    def set_step(self, step: int) -> None:
        super().set_step(step)
        _set(self.beta1_power, self._config.momentum ** (step + 1))
        _set(self.beta2_power, BETA2 ** (step + 1))

    def construct(self, gradients):
        rates = (self.rate,) * self.num_others + (self.bias_rate,) * self.num_biases
        powers, betas = (self.beta1_power, self.beta2_power), (self.beta1, self.beta2)
        step = ops.partial(self.rule, self.update, powers, betas, self.epsilon)
        return ops.HyperMap()(step, self.decays, rates, gradients, self.parameters, self.means, self.squares)


def make_optimizer(config: ModelConfig, network: nn.Cell) -> Optimizer:
    """Return the configured optimizer over ``network``'s trainable parameters, at the rates of the first step."""
    trainable = network.trainable_params()
    if config.optimizer in ("adam", "adamw"):
        optimizer: Optimizer = Adam(config, trainable, apart=config.optimizer == "adamw")
    else:
        optimizer = Momentum(config, trainable)
    optimizer.set_step(0)
    return optimizer


def parameter_groups(
    parameters: Sequence[Parameter],
) -> Tuple[List[Parameter], List[Parameter], List[Parameter]]:
    """Return (weights, normalisation and other vectors, biases); the last part of its name tells a bias."""
    weights: List[Parameter] = []
    norms: List[Parameter] = []
    biases: List[Parameter] = []
    for parameter in parameters:
        if parameter.name.rpartition(".")[2] in ("bias", "beta"):
            biases.append(parameter)
        else:
            (weights if parameter.ndim > 1 else norms).append(parameter)
    return weights, norms, biases


def _scalar(name: str) -> Parameter:
    return Parameter(Tensor(0.0, mindspore.float32), name=name, requires_grad=False)


def _set(scalar: Parameter, value: float) -> None:
    scalar.set_data(Tensor(value, mindspore.float32))


_momentum_step = ops.MultitypeFuncGraph("momentum_step")
_nesterov_step = ops.MultitypeFuncGraph("nesterov_step")
_adam_step = ops.MultitypeFuncGraph("adam_step")
_adamw_step = ops.MultitypeFuncGraph("adamw_step")


@_momentum_step.register("Function", "Tensor", "Number", "Tensor", "Tensor", "Tensor", "Tensor")
def _(update, momentum, decay, rate, gradient, parameter, velocity):
    if decay > 0:
        gradient = gradient + parameter * decay
    return update(parameter, velocity, rate, gradient, momentum)


@_nesterov_step.register("Function", "Function", "Tensor", "Number", *["Tensor"] * 5)
def _(update, descend, momentum, decay, rate, ahead, gradient, parameter, velocity):
    if decay > 0:
        gradient = gradient + parameter * decay
    update(parameter, velocity, ahead, gradient, momentum)
    return descend(parameter, rate, gradient)


@_adam_step.register("Function", "Tuple", "Tuple", "Tensor", "Number", *["Tensor"] * 5)
def _(update, powers, betas, epsilon, decay, rate, gradient, parameter, mean, square):
    if decay > 0:
        gradient = gradient + parameter * decay
    return update(parameter, mean, square, powers[0], powers[1], rate, betas[0], betas[1], epsilon, gradient)


@_adamw_step.register("Function", "Tuple", "Tuple", "Tensor", "Number", *["Tensor"] * 5)
def _(update, powers, betas, epsilon, decay, rate, gradient, parameter, mean, square):
    if decay > 0:
        ops.assign(parameter, parameter * (1 - rate * decay))
    return update(parameter, mean, square, powers[0], powers[1], rate, betas[0], betas[1], epsilon, gradient)
