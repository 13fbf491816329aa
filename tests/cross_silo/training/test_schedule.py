"""The learning rate by step."""

from __future__ import annotations

import math

import pytest

from cross_silo.config.model import ModelConfig
from cross_silo.training.schedule import learning_rate


def test_warm_up_rises_linearly_to_the_base_rate():
    config = ModelConfig("d", base_lr=0.4, warmup_step=10, warmup_ratio=0.25)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 5) == pytest.approx(0.25)
    assert learning_rate(config, 10) == learning_rate(config, 10_000) == 0.4


def test_cosine_falls_to_zero_and_stays():
    config = ModelConfig("d", base_lr=1.0, lr_schedule="cosine", warmup_step=10, lr_total_steps=110)
    assert learning_rate(config, 10) == 1.0
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 35) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(config, 110) == pytest.approx(0)
    assert learning_rate(config, 500) == pytest.approx(0)


def test_steps_lower_tenfold():
    config = ModelConfig("d", base_lr=1.0, lr_schedule="step", lr_steps=(5, 8))
    assert [learning_rate(config, step) for step in (4, 5, 7, 8)] == pytest.approx([1, 0.1, 0.1, 0.01])
