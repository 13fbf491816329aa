"""Precision over recall of each class, as a picture."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cross_silo.report.plots import COLOURS, DPI, LINES, finish, legend_beside

MOST_CLASSES = 14
"""Classes with a line of their own, those with the most objects; the others are thin and grey."""
RECALL = np.linspace(0, 1, 101)


def precision_recall(curves: Mapping[float, np.ndarray], names: Sequence[str], num_objects: Sequence[int]) -> Figure:
    """Return one panel an IoU, one line a class and the mean over the classes.

    Args:
        curves: precision by IoU: float (classes, 101) at recall 0, 0.01, ..., 1; nan for a class without objects.
        num_objects: objects of each class.
    """
    figure = Figure(figsize=(10, 0.6 + 4.6 * len(curves)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(curves), 1, squeeze=False).flatten()
    present = [place for place in range(len(names)) if num_objects[place]]
    shown = sorted(sorted(present, key=lambda place: -num_objects[place])[:MOST_CLASSES])
    for panel, (iou, precision) in zip(panels, curves.items()):
        for place in set(present) - set(shown):
            panel.plot(RECALL, precision[place], color="#b0b0b0", linewidth=0.8)
        for order, place in enumerate(shown):
            panel.plot(
                RECALL,
                precision[place],
                color=COLOURS[order % (len(COLOURS) - 1)],  # black is the mean
                linestyle=LINES[order // (len(COLOURS) - 1) % len(LINES)],
                linewidth=2.2,
                label=f"{names[place]}: AP {precision[place].mean():.3f}",
            )
        mean = precision[present].mean(axis=0)
        if len(present) > 1:
            label = f"mean of {len(present)} classes: AP {mean.mean():.3f}"
            panel.plot(RECALL, mean, color="black", linestyle=(0, (1, 1)), linewidth=2.2, label=label)
        finish(panel, f"IoU {iou:.2f}", "recall", "precision", whole=False)
        panel.set_xlim(0, 1.005)
        panel.set_ylim(0, 1.03)
        legend_beside(panel)
    hidden = len(present) - len(shown)
    note = f" (grey: {hidden} classes with fewer objects)" if hidden else ""
    figure.suptitle(f"Precision over recall by class{note}", fontsize=15)
    return figure
