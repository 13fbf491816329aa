"""The learning rate as a function of the step number over all rounds, so that a round never restarts it."""

from __future__ import annotations

import math

from cross_silo.config.model import ModelConfig


def learning_rate(config: ModelConfig, step: int) -> float:
    """Return the learning rate of step ``step`` (the first is 0).

    Linear warm-up from ``warmup_ratio * base_lr`` (Goyal et al. 2017, section 2.2), then constant, cosine
    (Loshchilov and Hutter 2017, equation 5, one period to 0) or lowered tenfold at each of ``lr_steps``.
    """
    if step < config.warmup_step:
        done = step / config.warmup_step
        return config.base_lr * (config.warmup_ratio + (1 - config.warmup_ratio) * done)
    if config.lr_schedule == "cosine":
        period = config.lr_total_steps - config.warmup_step
        done = min(step - config.warmup_step, period) / period
        return config.base_lr * (1 + math.cos(math.pi * done)) / 2
    return config.base_lr * 0.1 ** sum(step >= boundary for boundary in config.lr_steps)
