"""Pictures of a job: loss at each step and mean loss an epoch of each worker, AP by round, over all and by silo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cross_silo.report.loss_log import StepLoss, epoch_means

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart with any common colour blindness (Okabe and Ito 2008)."""
LINES = ("-", "--", "-.", ":")
METRICS = {"AP50": "AP50 (IoU 0.50)", "AP": "AP (IoU 0.50:0.95)", "AP75": "AP75 (IoU 0.75)"}
SMOOTHED = 25
"""Parts into which the moving mean's window divides the steps."""
WIDE_RANGE = 30.0
"""Largest loss over the median above which a chart's losses are on a logarithmic scale."""
DPI = 150
STYLE = {"fontsize": 12}
STEP_AXIS = "training step, over all rounds"


def step_losses(workers: Mapping[str, Sequence[StepLoss]]) -> Figure:
    """Return the total loss at each training step: one panel a worker, on common axes."""
    columns = 1 if len(workers) <= 3 else 2
    rows = math.ceil(len(workers) / columns)
    figure = Figure(figsize=(5.5 + 4.5 * columns, 1.0 + 2.8 * rows), dpi=DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    logarithmic = spread([step.total for steps in workers.values() for step in steps]) > WIDE_RANGE
    for place, (panel, (name, steps)) in enumerate(zip(panels, workers.items())):
        totals = finite_only([step.total for step in steps])
        positions = np.arange(1, len(totals) + 1)
        window = max(1, len(totals) // SMOOTHED)
        colour = COLOURS[place % len(COLOURS)]
        panel.plot(
            positions,
            totals,
            color=colour,
            alpha=0.35 if window > 1 else 1.0,
            linewidth=0.9 if window > 1 else 1.8,
            label="each step",
        )
        if window > 1:
            means = moving_mean(totals, window)
            panel.plot(positions, means, color=colour, linewidth=2.2, label=f"mean of {window} steps")
        broken = positions[np.isnan(totals)]
        if len(broken):
            panel.plot(broken, [0.02] * len(broken), "x", color="black", transform=panel.get_xaxis_transform(),
                       label="not finite", clip_on=False)  # fmt: skip
        finish(panel, name, STEP_AXIS, "total loss")
        legend_beside(panel)
        panel.label_outer()
    for panel in panels[len(workers) :]:
        panel.set_axis_off()
    for panel in panels[max(0, len(workers) - columns) : len(workers)]:  # with nothing below them
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(STEP_AXIS, **STYLE)
    panels[0].margins(x=0.01)
    if logarithmic:  # the panels share their axes
        panels[0].set_yscale("log")
    else:
        panels[0].set_ylim(bottom=0)
    figure.suptitle("Loss at each training step", fontsize=15)
    return figure


def epoch_losses(workers: Mapping[str, Sequence[StepLoss]]) -> Figure:
    """Return the mean loss of each local epoch: one line a worker."""
    figure, axes = _one_panel()
    for place, (name, steps) in enumerate(workers.items()):
        means = epoch_means(list(steps))
        axes.plot(
            list(means),
            finite_only(list(means.values())),
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINES[place // len(COLOURS) % len(LINES)],
            marker="o",
            markersize=5,
            linewidth=2,
            label=name,
        )
    finish(axes, "Mean loss of each local epoch", "epoch, over all rounds", "mean total loss")
    axes.set_ylim(bottom=0)
    legend_beside(axes)
    return figure


def precision_by_round(evaluations: Mapping[int, Mapping[str, Optional[float]]]) -> Figure:
    """Return the global model's average precision after each round; round 0 is the initial model."""
    figure, axes = _one_panel()
    rounds = sorted(evaluations)
    for place, (metric, label) in enumerate(METRICS.items()):
        values = [evaluations[round].get(metric) for round in rounds]
        numbers = np.array([math.nan if value is None else value for value in values])
        axes.plot(rounds, numbers, color=COLOURS[place], marker="osD"[place], markersize=6, linewidth=2, label=label)
    finish(axes, "Global model on held-out images", "round (0: initial model)", "average precision")
    axes.set_ylim(0, 1)
    legend_beside(axes)
    return figure


def precision_by_silo(evaluations: Mapping[int, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Return the global model's AP50 after each round on each silo's own validation set: one line a silo."""
    figure, axes = _one_panel()
    silos = in_order({silo for measured in evaluations.values() for silo in measured})
    for place, silo in enumerate(silos):
        rounds = [round for round in sorted(evaluations) if silo in evaluations[round]]
        axes.plot(
            rounds,
            [evaluations[round][silo]["AP50"] for round in rounds],
            color=COLOURS[place % len(COLOURS)],
            linestyle=LINES[place // len(COLOURS) % len(LINES)],
            marker="osD^v"[place % 5],
            markersize=6,
            linewidth=2,
            label=silo,
        )
    finish(axes, "Global model on each silo's own validation set", "round (0: initial model)", METRICS["AP50"])
    axes.set_ylim(0, 1)
    legend_beside(axes)
    return figure


def moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the ``window`` values around each place (fewer at the ends) that are numbers."""
    known = ~np.isnan(values)
    sums = np.concatenate([[0], np.cumsum(np.where(known, values, 0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    starts = np.maximum(np.arange(len(values)) - (window - 1) // 2, 0)
    ends = np.minimum(np.arange(len(values)) + window // 2 + 1, len(values))
    number = counts[ends] - counts[starts]
    return np.where(number > 0, (sums[ends] - sums[starts]) / np.maximum(number, 1), np.nan)


def finite_only(values: Sequence[float]) -> np.ndarray:
    """Return the values with nan for infinities: an infinite one would spoil the axis."""
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def spread(values: Sequence[float]) -> float:
    """Return the largest finite value over the median."""
    numbers = finite_only(values)
    numbers = numbers[~np.isnan(numbers)]
    median = float(np.median(numbers)) if len(numbers) else 0.0
    return float(numbers.max()) / median if median > 0 else 1.0


def finish(axes: Axes, title: str, x: str, y: str, whole: bool = True) -> None:
    """Title, axis labels, a grid; ``whole``: whole numbers along x."""
    axes.set_title(title, fontsize=13)
    axes.set_xlabel(x, **STYLE)
    axes.set_ylabel(y, **STYLE)
    axes.tick_params(labelsize=11)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.grid(True, color="#d0d0d0", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend_beside(axes: Axes) -> None:
    """A legend right of the data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=11, borderaxespad=0)


def _one_panel() -> "tuple[Figure, Axes]":
    figure = Figure(figsize=(10, 5), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def save(figures: Mapping[str, Figure], directory: Path) -> Dict[str, Path]:
    """Write each figure to ``{directory}/{name}.png``; return the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths: Dict[str, Path] = {}
    for name, figure in figures.items():
        paths[name] = directory / f"{name}.png"
        figure.savefig(paths[name])
    return paths


def in_order(names: Iterable[str]) -> List[str]:
    """Return names of workers or silos in the order of their numbers."""
    return sorted(names, key=lambda name: (len(name), name))
