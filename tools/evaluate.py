"""Measure a checkpoint on a COCO set: average precision, which classes are confused, curves, pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence

from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.config.model import load_model
from cross_silo.data.coco import CocoDataset, read_coco, write_json
from cross_silo.errors import UserError, run_main
from cross_silo.evaluation.confusion import confusion_table
from cross_silo.launch.arguments import positive

if TYPE_CHECKING:
    from cross_silo.evaluation.checkpoint_evaluation import Measured

MOST_CLASSES, MOST_ROWS = 10, 20
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
    parser.add_argument("--pictures", type=Path, help="directory for pictures of detections beside the truth")
    parser.add_argument("--num_pictures", type=positive, default=8, help="images drawn, spread evenly over the set")
    parser.add_argument("--curves", type=Path, help="PNG file for the classes' precision over recall")
    parser.add_argument(
        "--score", type=float, default=0.5, help="least score of a detection in the confusion table and the pictures"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    check(arguments)
    model = load_model(arguments.config)
    dataset = read_coco(arguments.annotations)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    from cross_silo.evaluation.checkpoint_evaluation import CheckpointEvaluation

    measured = CheckpointEvaluation(model, dataset, arguments.image_dir).measure(arguments.checkpoint)
    if arguments.out:
        write_json(arguments.out, measured.detections)
    confusion = confusion_table(dataset, measured.detections, arguments.score)
    report = {"checkpoint": arguments.checkpoint, "round": measured.info.round, **measured.metrics()}
    report["confusion"] = confusion.as_dict()
    try:
        report["files"] = write_pictures(arguments, dataset, measured)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be meant before minutes are spent. Raises UserError."""
    if not 0 <= arguments.score <= 1:
        raise UserError(f"--score is {arguments.score:g}, expected 0 to 1")
    if arguments.curves and arguments.curves.suffix != ".png":
        raise UserError(f"--curves is {arguments.curves}, expected a name that ends in .png")
    for flag in ("out", "curves"):
        path = getattr(arguments, flag)
        if path and not Path(path).absolute().parent.is_dir():
            raise UserError(f"--{flag} is {path}: its directory does not exist")
    if arguments.pictures and arguments.pictures.exists() and not arguments.pictures.is_dir():
        raise UserError(f"--pictures is {arguments.pictures}: not a directory")


def write_pictures(arguments: argparse.Namespace, dataset: CocoDataset, measured: "Measured") -> List[str]:
    """Write the pictures that were asked for; return the files."""
    files = [arguments.out] if arguments.out else []
    if arguments.curves:
        from cross_silo.report.curves import precision_recall

        classes = measured.evaluation.by_class
        names, objects = [entry.name for entry in classes], [entry.num_objects for entry in classes]
        precision_recall(measured.evaluation.curves, names, objects).savefig(arguments.curves)
        files.append(str(arguments.curves))
    if arguments.pictures:
        from cross_silo.report.pictures import draw_pictures

        found, where = measured.detections, Path(arguments.image_dir)
        drawn = draw_pictures(dataset, found, where, arguments.pictures, arguments.num_pictures, arguments.score)
        files += map(str, drawn)
    return files


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
    console.print(confusion_as_table(report["confusion"]))
    for path in report["files"]:
        console.print(path, soft_wrap=True, highlight=False, markup=False)
    console.print(f"{report['checkpoint']} in {report['seconds']:.1f} s", soft_wrap=True, highlight=False)


def confusion_as_table(confusion: Mapping[str, Any]) -> Table:
    """Return the confusion table; with many classes its largest entries off the diagonal."""
    labels, counts = confusion["labels"], confusion["counts"]
    title = f"detections with score {confusion['score']:g} or more, at IoU {confusion['iou']:g}"
    if len(labels) - 1 > MOST_CLASSES:
        table = Table("object", "detected as", title=f"{title}: most frequent confusions")
        table.add_column("count", justify="right")
        pairs = ((counts[i][j], i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j)
        for count, true, seen in sorted(pairs, reverse=True)[:MOST_ROWS]:
            if count:
                table.add_row(labels[true], labels[seen], str(count))
        return table
    table = Table(
        "object", title=title, caption="column background: missed; row background: nothing there, or a second box"
    )
    for label in labels:
        table.add_column(f"as {label}", justify="right", overflow="fold")
    for place, (label, row) in enumerate(zip(labels, counts)):
        last = place == len(labels) - 1
        table.add_row(label, *map(str, row[:-1]), "" if last else str(row[-1]))
    return table


def _number(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run_main(main)
