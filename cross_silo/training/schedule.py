"""Learning rates, momentum and the average's decay by the step number over all rounds: a round restarts none."""

from __future__ import annotations

import math

from cross_silo.config.model import ModelConfig


def learning_rate(config: ModelConfig, step: int) -> float:
    """Return the learning rate of step ``step`` (the first is 0) for all but biases.

    Linear warm-up from ``warmup_ratio * base_lr`` (Goyal et al. 2017, section 2.2), then constant, cosine
    (Loshchilov and Hutter 2017, equation 5, one period) or linear down to ``lr_final_ratio * base_lr``, or lowered
    tenfold at each of ``lr_steps``.
    """
    if step < config.warmup_step:
        return _warming(config, step, config.warmup_ratio * config.base_lr, config.base_lr)
    if config.lr_schedule in ("cosine", "linear"):
        period = config.lr_total_steps - config.warmup_step
        done = min(step - config.warmup_step, period) / period
        left = (1 + math.cos(math.pi * done)) / 2 if config.lr_schedule == "cosine" else 1 - done
        return config.base_lr * (config.lr_final_ratio + (1 - config.lr_final_ratio) * left)
    return config.base_lr * 0.1 ** sum(step >= boundary for boundary in config.lr_steps)


def bias_learning_rate(config: ModelConfig, step: int) -> float:
    """Return the learning rate of biases at step ``step``: their warm-up may come down from ``warmup_bias_lr``."""
    if config.warmup_bias_lr and step < config.warmup_step:
        return _warming(config, step, config.warmup_bias_lr, config.base_lr)
    return learning_rate(config, step)


def momentum(config: ModelConfig, step: int) -> float:
    """Return the momentum of step ``step``."""
    if config.warmup_momentum and step < config.warmup_step:
        return _warming(config, step, config.warmup_momentum, config.momentum)
    return config.momentum


def average_decay(config: ModelConfig, step: int) -> float:
    """Return the decay of the weights' moving average after step ``step``, the first being 1.

    It grows from nearly 0, so that the average of the first steps is not mostly the initial weights.
    """
    if not config.ema_ramp_steps:
        return config.ema_decay
    return config.ema_decay * (1 - math.exp(-step / config.ema_ramp_steps))


def _warming(config: ModelConfig, step: int, start: float, end: float) -> float:
    return start + (end - start) * step / config.warmup_step
