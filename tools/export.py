"""Export a checkpoint's detector as MindIR or ONNX, and check the file by running it on an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table

from cross_silo.errors import run_main
from cross_silo.export import FORMATS
from cross_silo.export.checkpoint import export_checkpoint


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint", required=True, help="a job's checkpoint, or a worker's")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, type=Path, help="the file; what it takes and gives goes to {out}.json")
    parser.add_argument("--image", required=True, type=Path, help="an image with objects, to check the file on")
    parser.add_argument("--batch", type=int, default=1, help="images that the file takes at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    given = parse(argv)
    report = export_checkpoint(given.config, given.checkpoint, given.format, given.image, given.batch, given.out)
    if given.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def show(report: Mapping[str, Any]) -> None:
    """Print a report of :func:`export_checkpoint` as a table."""
    agreement = report["agreement"]
    table = Table(title=f"{report['format']}, {report['bytes'] / 1e6:.1f} MB", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for kind in ("inputs", "outputs"):
        for name, tensor in report[kind].items():
            table.add_row(kind[:-1], f"{name} {tensor['dtype']} {tuple(tensor['shape'])}")
    table.add_row("classes", ", ".join(report["classes"]))
    table.add_row(
        "run on the image",
        f"{agreement['matched']} of {agreement['expected']} detections found again, "
        f"sides within {agreement['box_error']:.2g} pixels, scores within {agreement['score_error']:.2g}",
    )
    table.add_row("seconds", f"{report['seconds']:.3f} with loading")
    console = Console()
    console.print(table)
    console.print(report["out"], soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_main(main)
