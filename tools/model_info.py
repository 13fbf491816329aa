"""Tell what a model costs: parameters by part, multiply-adds and activations of one image."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.config.model import load_model, make_detector
from cross_silo.errors import run_main
from cross_silo.launch.arguments import positive
from cross_silo.model_info import Part, add_costs, count_costs, count_parameters

COUNTED = (
    "multiply-adds: every convolution and matrix product of the compiled predictor (evaluation's number of proposals), "
    "an addition and a multiplication together as one; normalisation, activation, interpolation and suppression are "
    "not counted. activations: the outputs of these operations."
)


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--num_classes", type=positive, help="object classes, background not counted")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    model = load_model(arguments.config)
    detector = make_detector(model, arguments.num_classes)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    network = detector.build_network()
    parameters = count_parameters(network)
    costs = count_costs(detector, network, model.config)
    parts = add_costs(parameters, costs, model.config.eval_batch_size)
    rows = {name: dataclasses.asdict(part) for name, part in parts.items()}
    total = {key.name: sum(row[key.name] for row in rows.values()) for key in dataclasses.fields(Part)}
    report = {
        "config": arguments.config,
        "input": [model.config.img_height, model.config.img_width],
        "parts": rows,
        "total": {**total, "parameters": total["trainable"] + total["frozen"]},
        "uncounted": costs.uncounted,
        "counted": COUNTED,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def show(report: Mapping[str, Any]) -> None:
    """Print a report as a table."""
    height, width = report["input"]
    table = Table(title=f"{report['config']}: one image of {height} x {width}", show_footer=True)
    total = report["total"]
    table.add_column("part", footer="all")
    headers = (("trainable", "trainable\nparameters"), ("frozen", "frozen"), ("statistics", "batch-norm\nstatistics"))
    for key, header in headers:
        table.add_column(header, justify="right", footer=f"{total[key]:,}")
    table.add_column("multiply-adds\nG", justify="right", footer=f"{total['macs'] / 1e9:.3f}")
    table.add_column("activations\nMB", justify="right", footer=f"{total['activation_bytes'] / 1e6:.1f}")
    for name, row in report["parts"].items():
        counts = (f"{row[key]:,}" for key, _ in headers)
        table.add_row(name, *counts, f"{row['macs'] / 1e9:.3f}", f"{row['activation_bytes'] / 1e6:.1f}")
    console = Console()
    console.print(table)
    console.print(f"{total['parameters']:,} parameters, {total['trainable']:,} of them trainable", highlight=False)
    console.print(report["counted"], highlight=False)
    for name, number in report["uncounted"].items():
        console.print(f"{number} operations {name} are not counted", highlight=False)


if __name__ == "__main__":
    run_main(main)
