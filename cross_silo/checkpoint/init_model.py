"""Makes a job's initial model: the detector's network, newly initialised or from a pre-trained checkpoint."""

from __future__ import annotations

import argparse
import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.checkpoint import (
    CheckpointInfo,
    checkpoint_path,
    content_sha256,
    list_checkpoints,
    model_fingerprint,
    write_checkpoint,
)
from cross_silo.checkpoint.info import TRAINABLE
from cross_silo.checkpoint.network import federated_tensors, tensor_kinds, tensor_shapes
from cross_silo.checkpoint.pre_trained import (
    Matching,
    Pretrained,
    class_note,
    class_tensors,
    few,
    filled_by_part,
    match,
    unchanged,
)
from cross_silo.config.federated import load_federated
from cross_silo.config.model import Model, ModelConfig, load_model, make_detector
from cross_silo.data.coco import read_coco
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError, run_main

if TYPE_CHECKING:
    from cross_silo.detector import Detector


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="where the server finds the checkpoint")
    parser.add_argument("--pre_trained", default="", help="checkpoint to start from; default: the model YAML's")
    parser.add_argument("--fl_name", default="", help="the job's name; default: the federated YAML's")
    parser.add_argument("--yaml_config", default="", help="federated YAML")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--num_classes", type=int, help="object classes; default: those of the data")
    classes.add_argument("--annotations", default="", help="COCO json with the classes")
    classes.add_argument("--dataset_dir", default="", help="a mindrecord_{i} directory, or one that holds them")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    federated = load_federated(arguments.yaml_config) if arguments.yaml_config else None
    fl_name = arguments.fl_name or (federated.fl_name if federated else "")
    if not fl_name:
        raise UserError("--fl_name is missing: expected the job's name, or --yaml_config to take it from")
    if federated and fl_name != federated.fl_name:
        raise UserError(f"--fl_name is {fl_name!r}, but {arguments.yaml_config} says {federated.fl_name!r}")
    refuse_existing(arguments.checkpoint_dir, fl_name)
    model = load_model(arguments.config)
    evaluation_set = federated.evaluation.annotations if federated else ""
    classes, num_classes = data_classes(arguments, evaluation_set, model.config)
    number = num_classes or model.config.num_classes
    detector = make_detector(model, num_classes)
    pre_trained = Pretrained.read(arguments.pre_trained or model.config.pre_trained)

    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    report = write_initial(detector, fl_name, classes, pre_trained, arguments.checkpoint_dir)
    report["num_classes"] = number
    if pre_trained.path:
        anew = anew_for_classes(model, detector, number, report["misshapen"]) if report["misshapen"] else []
        report["class_note"] = class_note(pre_trained, classes, number, anew)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def refuse_existing(directory: Path, fl_name: str) -> None:
    """Refuse where the job has checkpoints: the server would go on from them, not from a new initial model."""
    found = list_checkpoints(directory, fl_name)
    if found:
        raise UserError(
            f"--checkpoint_dir {directory} holds checkpoints of job {fl_name!r} up to round {found[-1][0]}; "
            "expected none (another directory or fl_name, or move them away)"
        )


def data_classes(
    arguments: argparse.Namespace, evaluation_set: str, config: ModelConfig
) -> Tuple[Tuple[str, ...], Optional[int]]:
    """Return (names, number) of the object classes, from the first source that is given.

    The command line comes first, then the job's evaluation set, then the model YAML's ``instance_set``. No source:
    no names, and None for the number, which the model YAML must then have.
    """
    if arguments.num_classes is not None:
        return (), arguments.num_classes
    if arguments.dataset_dir:
        names = shard_classes(Path(arguments.dataset_dir))
        return names, len(names)
    annotations = arguments.annotations or evaluation_set
    if not annotations and not config.num_classes:
        annotations = config.instance_set
    if not annotations:
        return (), None
    names = tuple(category.name for category in read_coco(annotations).categories)
    return names, len(names)


def shard_classes(directory: Path) -> Tuple[str, ...]:
    """Return the class names of a silo's MindRecord directory, or of all those in ``directory``."""
    silos = sorted(path for path in directory.glob("mindrecord_*") if path.is_dir()) or [directory]
    found = {path: tuple(category.name for category in read_manifest(path).categories) for path in silos}
    for path, names in found.items():
        if names != found[silos[0]]:
            raise UserError(
                f"{path}: its classes are {', '.join(names)}, those of {silos[0]} {', '.join(found[silos[0]])}"
            )
    return found[silos[0]]


def write_initial(
    detector: "Detector", fl_name: str, classes: Tuple[str, ...], pre_trained: Pretrained, directory: Path
) -> Dict[str, Any]:
    """Build the network, fill in what is pre-trained, write round 0's checkpoint; return what was done."""
    tensors = federated_tensors(detector.build_network())
    shapes, kinds = tensor_shapes(tensors), tensor_kinds(tensors)
    weights = {name: tensor.asnumpy() for name, tensor in tensors.items()}
    matching = Matching()
    if pre_trained.path:
        convert = getattr(detector, "pretrained_value", unchanged)
        matching = match(pre_trained, shapes, detector.map_pretrained, convert)
        weights.update(matching.values)
    info = CheckpointInfo(
        fl_name=fl_name,
        fingerprint=model_fingerprint(shapes, kinds),
        pre_trained_sha256=pre_trained.sha256,
        initial_sha256=content_sha256(weights),
        classes=classes,
        kinds=kinds,
    )
    path = checkpoint_path(directory, fl_name, 0, datetime.datetime.now())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        size = write_checkpoint(path, weights, info)
    except OSError as error:
        raise UserError(f"--checkpoint_dir {directory}: {error.strerror}") from None
    trainable = [name for name, kind in kinds.items() if kind == TRAINABLE]
    return {
        "checkpoint": str(path),
        "bytes": size,
        "tensors": len(weights),
        "parameters": sum(int(tensor.size) for tensor in weights.values()),
        "trainable": sum(int(weights[name].size) for name in trainable),
        "classes": list(classes),
        "fingerprint": info.fingerprint,
        "pre_trained": pre_trained.path,
        "matched": len(matching.values),
        "not_filled": [name for name in weights if name not in matching.values] if pre_trained.path else [],
        "frozen_at_random": [
            name
            for name, kind in kinds.items()
            if kind != TRAINABLE and weights[name].ndim > 1 and name not in matching.values
        ],
        "by_part": filled_by_part(shapes, matching.values) if pre_trained.path else {},
        "unknown": matching.unknown,
        "absent": matching.absent,
        "misshapen": matching.misshapen,
    }


def anew_for_classes(model: Model, detector: "Detector", number: int, misshapen: Mapping[str, str]) -> List[str]:
    """Return which of ``misshapen`` differ because the checkpoint has another number of classes than ``number``."""
    free = replace(model, config=replace(model.config, num_classes=0))
    here, elsewhere = (
        tensor_shapes(federated_tensors(made.build_network())) for made in (detector, make_detector(free, number + 1))
    )
    return [name for name in class_tensors(here, elsewhere) if name in misshapen]


def show(report: Mapping[str, Any]) -> None:
    """Print a report of :func:`write_initial` as tables."""
    console = Console(markup=False)  # names are the file's own
    table = Table(title="initial model", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("tensors", f"{report['tensors']}")
    table.add_row("parameters", f"{report['parameters']:,} ({report['trainable']:,} trainable)")
    table.add_row("classes", f"{report['num_classes']} " + ", ".join(report["classes"]))
    table.add_row("size", f"{report['bytes'] / 1e6:.1f} MB")
    table.add_row("fingerprint", report["fingerprint"][:12])
    if report["frozen_at_random"]:
        table.add_row("warning", f"random and frozen for good, {few(report['frozen_at_random'])}")
    if report["pre_trained"]:
        table.add_row("pre-trained", report["pre_trained"])
        parts = ", ".join(f"{part} {filled} of {total}" for part, (filled, total) in report["by_part"].items())
        table.add_row("  filled from it", f"{report['matched']} of {report['tensors']} tensors: {parts}")
        table.add_row("  newly initialised", few(report["not_filled"]))
        if report["class_note"]:
            table.add_row("  class layers", report["class_note"])
        for name, difference in report["misshapen"].items():
            table.add_row("  not used: shape differs", f"{name}: {difference}")
        table.add_row("  not used: name unknown", few(report["unknown"]))
        table.add_row("  not used: no such layer", few(report["absent"]))
    console.print(table)
    console.print(report["checkpoint"], soft_wrap=True, highlight=False)


if __name__ == "__main__":
    run_main(main)
