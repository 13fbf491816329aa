"""Rates, momentum and the average's decay by step."""

from __future__ import annotations

import math

import pytest

from cross_silo.config.model import ModelConfig
from cross_silo.training.schedule import average_decay, bias_learning_rate, learning_rate, momentum


def test_warm_up_rises_linearly_to_the_base_rate():
    config = ModelConfig("d", base_lr=0.4, warmup_step=10, warmup_ratio=0.25)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 5) == pytest.approx(0.25)
    assert learning_rate(config, 10) == learning_rate(config, 10_000) == 0.4
    assert [bias_learning_rate(config, step) for step in (0, 5, 10)] == [
        learning_rate(config, step) for step in (0, 5, 10)
    ]


def test_cosine_falls_to_zero_and_stays():
    config = ModelConfig("d", base_lr=1.0, lr_schedule="cosine", warmup_step=10, lr_total_steps=110)
    assert learning_rate(config, 10) == 1.0
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 35) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(config, 110) == pytest.approx(0)
    assert learning_rate(config, 500) == pytest.approx(0)


def test_linear_falls_evenly_and_stays():
    config = ModelConfig("d", base_lr=2.0, lr_schedule="linear", warmup_step=10, lr_total_steps=110)
    assert [learning_rate(config, step) for step in (10, 35, 60, 110, 500)] == pytest.approx([2, 1.5, 1, 0, 0])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_final_rate_is_a_share_of_the_base_rate(schedule):
    config = ModelConfig("d", base_lr=0.01, lr_schedule=schedule, lr_total_steps=100, lr_final_ratio=0.1)
    assert [learning_rate(config, step) for step in (0, 50, 100, 1000)] == pytest.approx([0.01, 0.0055, 0.001, 0.001])


def test_steps_lower_tenfold():
    config = ModelConfig("d", base_lr=1.0, lr_schedule="step", lr_steps=(5, 8))
    assert [learning_rate(config, step) for step in (4, 5, 7, 8)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_biases_come_down_and_momentum_up_to_the_base_values():
    config = ModelConfig(
        "d", base_lr=0.01, momentum=0.9, warmup_step=10, warmup_ratio=0.0, warmup_bias_lr=0.1, warmup_momentum=0.8
    )
    assert [learning_rate(config, step) for step in (0, 5, 10)] == pytest.approx([0, 0.005, 0.01])
    assert [bias_learning_rate(config, step) for step in (0, 5, 10, 99)] == pytest.approx([0.1, 0.055, 0.01, 0.01])
    assert [momentum(config, step) for step in (0, 5, 10, 99)] == pytest.approx([0.8, 0.85, 0.9, 0.9])


def test_the_averages_decay_grows_to_its_value():
    config = ModelConfig("d", ema_decay=0.9999, ema_ramp_steps=2000)
    assert average_decay(config, 1) == pytest.approx(0.9999 * (1 - math.exp(-1 / 2000)))
    assert average_decay(config, 2000) == pytest.approx(0.9999 * (1 - 1 / math.e))
    assert average_decay(config, 100_000) == pytest.approx(0.9999)
