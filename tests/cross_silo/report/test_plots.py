"""The pictures: what they draw, and that they can be written."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cross_silo.report import plots
from cross_silo.report.loss_log import StepLoss


def steps(*totals, per_epoch=2):
    return [StepLoss(i // per_epoch + 1, i % per_epoch + 1, total) for i, total in enumerate(totals)]


def drawn(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_a_panel_a_worker_with_every_step():
    figure = plots.step_losses({"worker_0": steps(4, 3, 2, 1), "worker_1": steps(9, 8)})
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("worker_0", "worker_1")
    assert drawn(first)["each step"] == ([1, 2, 3, 4], [4, 3, 2, 1])
    assert drawn(second)["each step"] == ([1, 2], [9, 8])
    bottom, top = first.get_ylim()
    assert bottom == 0 and top >= 9 and first.get_ylim() == second.get_ylim()
    assert first.get_ylabel() == "total loss" and second.get_xlabel() == plots.STEP_AXIS


def test_a_moving_mean_where_there_are_many_steps():
    few, many = plots.step_losses({"worker_0": steps(*range(1, 41)), "worker_1": steps(*range(100))}).axes
    assert list(drawn(few)) == ["each step"]
    assert list(drawn(many)) == ["each step", "mean of 4 steps"]
    np.testing.assert_allclose(drawn(many)["mean of 4 steps"][1][50], (49 + 50 + 51 + 52) / 4)


def test_steps_without_a_finite_loss_are_marked():
    (axes,) = plots.step_losses({"worker_0": steps(4, math.nan, 2, math.inf)}).axes
    assert drawn(axes)["not finite"][0] == [2, 4]
    np.testing.assert_array_equal(drawn(axes)["each step"][1], [4, math.nan, 2, math.nan])


def test_losses_of_very_different_size_get_a_logarithmic_scale():
    (axes,) = plots.step_losses({"worker_0": steps(1000, 1, 1, 1)}).axes
    assert axes.get_yscale() == "log"


def test_a_line_a_worker_of_epoch_means():
    (axes,) = plots.epoch_losses({"worker_0": steps(4, 2, 1, 1), "worker_1": steps(8, 6)}).axes
    assert drawn(axes) == {"worker_0": ([1, 2], [3, 1]), "worker_1": ([1], [7])}
    colours = [line.get_color() for line in axes.get_lines()]
    assert len(set(colours)) == 2


def test_more_workers_than_colours_differ_in_their_lines():
    workers = {f"worker_{i}": steps(1, 2) for i in range(20)}
    (axes,) = plots.epoch_losses(workers).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == 20


def test_precision_by_round_leaves_out_what_is_not_known():
    (axes,) = plots.precision_by_round({2: {"AP": 0.3, "AP50": 0.5, "AP75": None}, 0: {"AP": 0.0, "AP50": 0.1}}).axes
    lines = drawn(axes)
    assert lines["AP50 (IoU 0.50)"] == ([0, 2], [0.1, 0.5]) and lines["AP (IoU 0.50:0.95)"] == ([0, 2], [0.0, 0.3])
    assert np.isnan(lines["AP75 (IoU 0.75)"][1]).all()
    assert axes.get_ylim() == (0, 1)


def test_precision_by_silo_is_a_line_a_silo():
    measured = {0: {"silo_10": {"AP50": 0.1}}, 2: {"silo_10": {"AP50": 0.5}, "silo_9": {"AP50": 0.25}}}
    (axes,) = plots.precision_by_silo(measured).axes
    assert drawn(axes) == {"silo_9": ([2], [0.25]), "silo_10": ([0, 2], [0.1, 0.5])}
    assert axes.get_ylim() == (0, 1)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-100, 100), st.just(math.nan)), min_size=1, max_size=40), st.integers(1, 50))
def test_moving_mean_is_the_mean_of_the_window(values, window):
    found = plots.moving_mean(np.array(values), window)
    for place, value in enumerate(found):
        around = values[max(0, place - (window - 1) // 2) : place + window // 2 + 1]
        known = [number for number in around if not math.isnan(number)]
        if known:
            assert value == pytest.approx(sum(known) / len(known), abs=1e-9)
        else:
            assert math.isnan(value)


@pytest.mark.parametrize("workers", [1, 3, 5])
def test_pictures_are_written_large_enough_to_read(tmp_path, workers):
    figures = {
        "loss_steps": plots.step_losses({f"worker_{i}": steps(3, 2, 1) for i in range(workers)}),
        "ap": plots.precision_by_round({0: {"AP": 0.1, "AP50": 0.2, "AP75": 0.1}}),
    }
    paths = plots.save(figures, tmp_path / "plots")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["ap.png", "loss_steps.png"]
    for path in paths.values():
        with Image.open(path) as image:
            assert image.width >= 1400 and image.height >= 500


def test_the_legend_is_beside_the_data():
    figure = plots.epoch_losses({"worker_0": steps(4, 2, 1, 1)})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1


def test_workers_are_in_the_order_of_their_numbers():
    assert plots.in_order(["worker_10", "worker_2", "worker_0"]) == ["worker_0", "worker_2", "worker_10"]
