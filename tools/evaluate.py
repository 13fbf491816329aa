"""Measure a checkpoint on a COCO set: average precision over all, by object size and by class."""

from __future__ import annotations

import argparse
import json
from typing import Any, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.config.model import load_model
from cross_silo.data.coco import read_coco, write_json
from cross_silo.errors import run_main

METRICS = {
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small: below 32 x 32 px",
    "APm": "medium",
    "APl": "large: above 96 x 96 px",
}


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint", required=True, help="a job's checkpoint, or a worker's")
    parser.add_argument("--annotations", required=True, help="COCO json")
    parser.add_argument("--image_dir", required=True, help="directory that the json's file names are relative to")
    parser.add_argument("--out", default="", help="write the detections there, as COCO results")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    model = load_model(arguments.config)
    dataset = read_coco(arguments.annotations)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    from cross_silo.evaluation.checkpoint_evaluation import CheckpointEvaluation

    measured = CheckpointEvaluation(model, dataset, arguments.image_dir).measure(arguments.checkpoint)
    if arguments.out:
        write_json(arguments.out, measured.detections)
    report = {"checkpoint": arguments.checkpoint, "round": measured.info.round, **measured.metrics()}
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def show(report: Mapping[str, Any]) -> None:
    """Print a report as tables."""
    console = Console()
    overall = Table(title=f"COCO box AP, {report['num_images']} images, {report['num_detections']} detections")
    for column in ("metric", "objects and overlap"):
        overall.add_column(column)
    overall.add_column("value", justify="right")
    for name, meaning in METRICS.items():
        overall.add_row(name, meaning, _number(report[name]))
    by_class = Table(title="by class")
    by_class.add_column("class", overflow="fold")
    for column in ("AP", "AP50"):
        by_class.add_column(column, justify="right")
    for name, values in report["classes"].items():
        by_class.add_row(name, _number(values["AP"]), _number(values["AP50"]))
    console.print(overall)
    console.print(by_class)
    console.print(f"{report['checkpoint']} in {report['seconds']:.1f} s", soft_wrap=True, highlight=False)


def _number(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run_main(main)
