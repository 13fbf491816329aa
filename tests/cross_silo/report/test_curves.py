"""The picture of precision over recall."""

import numpy as np
import pytest

from cross_silo.report.curves import MOST_CLASSES, RECALL, precision_recall


def labels(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_a_line_a_class_and_the_mean(tmp_path):
    half = np.where(RECALL <= 0.5, 1.0, 0.0)
    curves = {iou: np.stack([np.ones(101), np.full(101, np.nan), half]) for iou in (0.5, 0.75)}
    figure = precision_recall(curves, ("cell", "rare", "dust"), (5, 0, 9))
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("IoU 0.50", "IoU 0.75")
    assert labels(first) == ["cell: AP 1.000", "dust: AP 0.505", "mean of 2 classes: AP 0.752"]
    np.testing.assert_array_equal(first.lines[1].get_ydata(), half)
    np.testing.assert_array_equal(first.lines[2].get_ydata(), (1 + half) / 2)
    figure.savefig(tmp_path / "curves.png")
    # all that the legend says is on the picture
    box = second.get_legend().get_window_extent()
    assert box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_one_class_is_its_own_mean():
    assert len(precision_recall({0.5: np.ones((1, 101))}, ("cell",), (3,)).axes[0].lines) == 1


def test_many_classes_keep_those_with_the_most_objects():
    number = MOST_CLASSES + 6
    figure = precision_recall({0.5: np.ones((number, 101))}, [f"c{i}" for i in range(number)], range(1, number + 1))
    assert labels(figure.axes[0])[0] == "c6: AP 1.000" and len(labels(figure.axes[0])) == MOST_CLASSES + 1
    assert "6 classes with fewer objects" in figure.get_suptitle()
    named = figure.axes[0].lines[6:]
    looks = {(line.get_color(), str(line.get_linestyle())) for line in named}
    assert len(looks) == len(named)


@pytest.mark.parametrize("place", [0, 37, 100])
def test_the_points_are_cocos_recalls(place):
    assert RECALL[place] == pytest.approx(place / 100)
