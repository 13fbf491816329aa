"""Tell how well YOLO's anchors fit the boxes of silos, and fit others by k-means and mutation."""

from __future__ import annotations

import argparse
import json
from typing import Any, List, Mapping, Optional, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.config.model import load_model
from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_reader import annotation_rows, read_records
from cross_silo.errors import UserError, run_main
from cross_silo.launch.arguments import not_negative
from yolo.anchors import SMALLEST_ANCHOR, anchor_table, best_possible_recall, fit_anchors, fitness
from yolo.settings import Settings

GOOD_RECALL = 0.98
"""Best possible recall from which on anchors need no change."""


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mindrecord_dir", required=True, nargs="+", help="directories of the converter; all silos train one network"
    )
    parser.add_argument("--config", required=True, help="model YAML: the anchors, anchor_t and the input's size")
    parser.add_argument("--generations", type=not_negative, default=1000, help="mutations tried after k-means")
    parser.add_argument("--seed", type=not_negative, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    model = load_model(arguments.config)
    settings = model.detector_settings
    if not isinstance(settings, Settings):
        raise UserError(f"{arguments.config}: detector is {model.config.detector}; expected yolo, which has anchors")
    runtime.prepare()
    height, width = model.config.img_height, model.config.img_width
    sizes = np.concatenate([box_sizes(directory, height, width) for directory in arguments.mindrecord_dir])
    wh = sizes[(sizes >= SMALLEST_ANCHOR).any(1)]
    configured = anchor_table(settings)
    levels, per_level, _ = configured.shape
    try:
        fitted = fit_anchors(wh, levels * per_level, settings.anchor_t, arguments.generations, arguments.seed)
    except UserError as error:
        raise UserError(f"--mindrecord_dir: {error}") from None
    fitted = fitted.astype(np.float64).round(1)  # as they are printed
    report = {
        "boxes": len(wh),
        "too_small": len(sizes) - len(wh),
        "input": [height, width],
        "anchor_t": settings.anchor_t,
        "configured": measure(wh, configured.reshape(-1, 2), settings),
        "fitted": measure(wh, fitted, settings),
        "anchors": fitted.reshape(levels, -1).tolist(),
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report, Console())
    return 0


def box_sizes(directory: str, height: int, width: int) -> np.ndarray:
    """Return the boxes' widths and heights, (n, 2), in pixels of images fitted into ``height`` x ``width``.

    Crowd regions are not counted: the loss has no target for them.
    """
    manifest = read_manifest(directory)
    sizes: List[np.ndarray] = [np.zeros((0, 2))]
    for record in read_records(directory, manifest, range(manifest.num_images), ("annotation", "height", "width")):
        boxes = annotation_rows(record)
        boxes = boxes[boxes[:, 5] == 0]
        ratio = min(height / int(record["height"]), width / int(record["width"]))
        sizes.append((boxes[:, 2:4] - boxes[:, :2]) * ratio)
    return np.concatenate(sizes)


def measure(wh: np.ndarray, anchors: np.ndarray, settings: Settings) -> Mapping[str, float]:
    """Return how well ``anchors`` (anchors, 2) fit boxes ``wh`` (boxes, 2)."""
    recall, close = best_possible_recall(wh, anchors, settings.anchor_t)
    return {
        "best_possible_recall": recall,
        "anchors_per_box": close,
        "fitness": fitness(wh, anchors, settings.anchor_t),
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print a report as a table, and the fitted anchors as they stand in a YAML."""
    height, width = report["input"]
    table = Table(
        "anchors",
        title=f"{report['boxes']} boxes in images of {height} x {width}, anchor_t {report['anchor_t']:g}",
        caption="best possible recall: share of boxes that some anchor is trained on. fitness: mean ratio of a box's "
        "sides to its best anchor's, 1 a perfect fit",
    )
    for column in ("best possible recall", "anchors a box", "fitness"):
        table.add_column(column, justify="right")
    for name in ("configured", "fitted"):
        row = report[name]
        recall, close = row["best_possible_recall"], row["anchors_per_box"]
        table.add_row(name, f"{recall:.4f}", f"{close:.2f}", f"{row['fitness']:.3f}")
    console.print(table)
    if report["too_small"]:
        console.print(f"left out, for less than {SMALLEST_ANCHOR:g} pixels both ways: {report['too_small']}")
    if report["configured"]["best_possible_recall"] >= GOOD_RECALL:
        console.print(f"The configured anchors need no change: their recall is at least {GOOD_RECALL:g}.")
    console.print("Fitted, for the model YAML of every silo:")
    print("anchors:")
    for level in report["anchors"]:
        print(f"  - {level}")


if __name__ == "__main__":
    run_main(main)
