"""Converts a checkpoint between formats and between public names and ours, and says what had no place."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.checkpoint.info import CheckpointInfo, model_fingerprint
from cross_silo.checkpoint.network import federated_tensors, tensor_kinds, tensor_shapes
from cross_silo.checkpoint.pre_trained import few, unchanged
from cross_silo.checkpoint.tensor_file import CKPT, TensorFile, format_of, read_tensors, write_tensors
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.detection.names import Renamed, rename
from cross_silo.errors import UserError

if TYPE_CHECKING:
    from cross_silo.detector import Detector

AUTO, OURS, KEEP = "auto", "ours", "keep"


class Naming(Protocol):
    """The names that a public project gives a detector's tensors; made with the detector's settings or None."""

    def to_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """From public names, or ours, to ours."""

    def from_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """From our names to the public ones."""

    def num_classes(self, tensors: Mapping[str, np.ndarray]) -> Optional[int]:
        """Return the number of object classes of tensors under our names, where they say it."""


class OwnNaming:
    """A detector of which no public names are known but those that its ``map_pretrained`` takes."""

    def __init__(self, detector: "Detector") -> None:
        self._detector = detector

    def to_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename by the detector's own map."""
        value = getattr(self._detector, "pretrained_value", unchanged)
        return rename(tensors, self._detector.map_pretrained, lambda name: "name unknown", value)

    def from_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Keep our names: no others are known."""
        return rename(tensors, str, lambda name: "")

    def num_classes(self, tensors: Mapping[str, np.ndarray]) -> Optional[int]:
        """Leave it to the model YAML."""
        return None


@dataclass
class Conversion:
    """What is written and what is to be said of it."""

    tensors: Dict[str, np.ndarray]
    names: str
    """Of the naming that the tensors have now."""
    left_out: Dict[str, str] = field(default_factory=dict)
    """Entries of the file that was read, and why they have no place."""
    notes: List[str] = field(default_factory=list)
    not_filled: List[str] = field(default_factory=list)
    """Tensors of the model YAML's network that the file does not have."""
    info: CheckpointInfo = field(default_factory=CheckpointInfo)


def parse(namings: Sequence[str], argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="source", required=True, help=".ckpt, .safetensors, .pth or .pt file")
    parser.add_argument("--out", required=True, help="file to write; its ending says the format")
    parser.add_argument(
        "--names",
        default=AUTO,
        choices=(AUTO, OURS, *namings, KEEP),
        help="names of the tensors written; auto: ours in a .ckpt, else the public ones; keep: as they are read",
    )
    parser.add_argument("--config", default="", help="model YAML: shapes are checked against its network")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args(argv)


def main(namings: Mapping[str, str], argv: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Args:
        namings: from a naming's name to ``package.module:Class`` of its :class:`Naming`.
    """
    arguments = parse(list(namings), argv)
    format_of(arguments.out)
    if arguments.names == KEEP and arguments.config:
        raise UserError("--config is given with --names keep, which needs no model; expected one of them")
    model = load_model(arguments.config) if arguments.config else None
    found = read_tensors(arguments.source)
    if arguments.names == KEEP:
        done = Conversion(
            dict(found.tensors), KEEP, dict(found.left_out), info=CheckpointInfo(classes=found.info.classes)
        )
    else:
        done = convert(found, arguments.source, format_of(arguments.out), arguments.names, namings, model)
    size = write_tensors(arguments.out, done.tensors, done.info)
    report = {
        "in": arguments.source,
        "format": found.format,
        "out": arguments.out,
        "names": done.names,
        "bytes": size,
        "read": len(found.tensors),
        "written": len(done.tensors),
        "parameters": sum(int(tensor.size) for tensor in done.tensors.values()),
        "classes": list(done.info.classes),
        "left_out": done.left_out,
        "not_filled": done.not_filled,
        "notes": done.notes,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def convert(
    found: TensorFile, source: str, target_format: str, names: str, namings: Mapping[str, str], model: Optional[Model]
) -> Conversion:
    """Bring what was read into our names, check it against the model's network, and give it the names asked for.

    Raises:
        UserError: no naming knows the file's tensors, or none of them has a place in the network.
    """
    label, naming, ours = _recognise(found, source, names, namings, model)
    done = Conversion(
        {name: np.asarray(value, np.float32) for name, value in ours.tensors.items()},
        OURS,
        {**found.left_out, **ours.left_out},
        list(ours.notes),
        info=CheckpointInfo(classes=found.info.classes),
    )
    if model:
        _check(done, ours.sources, model, naming, source)
    if names == OURS or (names == AUTO and target_format == CKPT) or not label:
        return done
    public = naming.from_ours(done.tensors)
    for name, reason in public.left_out.items():
        done.left_out[ours.sources[name]] = reason
    # What was said of the way to our names is no longer so: the tensors do not stay there.
    return Conversion(
        public.tensors,
        label,
        done.left_out,
        list(public.notes),
        done.not_filled,
        CheckpointInfo(classes=done.info.classes),
    )


def _recognise(
    found: TensorFile, source: str, names: str, namings: Mapping[str, str], model: Optional[Model]
) -> Tuple[str, Naming, Renamed]:
    """Return the naming that most of the file's tensors are of, and the tensors under our names."""
    candidates: List[Tuple[str, Naming]] = [
        (label, _load(path, model))
        for label, path in namings.items()
        if names in (AUTO, OURS, label) and _fits(path, model)
    ]
    if model and not candidates:
        if names not in (AUTO, OURS):
            raise UserError(f"--names {names} is not of the detector of {model.path} ({model.config.detector})")
        candidates = [("", OwnNaming(make_detector(model)))]
    best: Optional[Tuple[str, Naming, Renamed]] = None
    most = (0, 0)
    for label, naming in candidates:
        try:
            ours = naming.to_ours(found.tensors)
        except ValueError as error:
            raise UserError(f"--in {source}: {error}") from None
        # Two namings of one detector differ in what they have a place for.
        known = (len(ours.tensors), len(naming.from_ours(ours.tensors).sources))
        if known > most:
            best, most = (label, naming, ours), known
    if best is None:
        raise UserError(
            f"--in {source}: none of its {len(found.tensors)} tensors (such as {next(iter(found.tensors))!r}) has a "
            f"name of {', '.join(label or 'the detector' for label, _ in candidates)}; "
            "--names keep changes the format alone"
        )
    return best


def _load(path: str, model: Optional[Model]) -> Naming:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)(model.detector_settings if model else None)


def _fits(path: str, model: Optional[Model]) -> bool:
    """Whether a naming is of the model's detector: of the same package."""
    return model is None or path.partition(".")[0] == model.detector_class.__module__.partition(".")[0]


def _check(done: Conversion, sources: Mapping[str, str], model: Model, naming: Naming, source: str) -> None:
    """Keep of ``done`` what the model's network has a place for, and say what of it is not filled."""
    number = model.config.num_classes or naming.num_classes(done.tensors)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    tensors = federated_tensors(make_detector(model, number).build_network())
    shapes, kinds = tensor_shapes(tensors), tensor_kinds(tensors)
    for name in list(done.tensors):
        shape = done.tensors[name].shape
        if name not in shapes:
            done.left_out[sources[name]] = "the model YAML's network has no such layer"
        elif shape != shapes[name]:
            done.left_out[sources[name]] = f"its shape is {shape}, in the model YAML's network {shapes[name]}"
        else:
            continue
        del done.tensors[name]
    if not done.tensors:
        first, reason = next(iter(done.left_out.items()))
        raise UserError(f"--in {source}: no tensor fits the network of {model.path}; {first}: {reason}")
    done.not_filled = [name for name in shapes if name not in done.tensors]
    if not done.not_filled:
        done.info = CheckpointInfo(classes=done.info.classes, fingerprint=model_fingerprint(shapes, kinds), kinds=kinds)


def show(report: Mapping[str, Any]) -> None:
    """Print a report of :func:`main` as a table."""
    table = Table(title="conversion", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("read", f"{report['read']} tensors, {report['format']}: {report['in']}")
    table.add_row("written", f"{report['written']} tensors, {report['parameters']:,} values, names: {report['names']}")
    if report["classes"]:
        table.add_row("classes", few(report["classes"]))
    reasons: Dict[str, List[str]] = {}
    for name, reason in report["left_out"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, entries in reasons.items():
        table.add_row("left out", f"{few(entries)}: {reason}")
    if report["not_filled"]:
        table.add_row("not in the file", few(report["not_filled"]))
    for note in report["notes"]:
        table.add_row("note", note)
    table.add_row("size", f"{report['bytes'] / 1e6:.1f} MB")
    console = Console(markup=False)  # names are the file's own
    console.print(table)
    console.print(report["out"], soft_wrap=True, highlight=False)
