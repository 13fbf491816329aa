"""Exports a checkpoint's detector and checks the file against the network on an image before it is kept."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

import numpy as np

from cross_silo import runtime
from cross_silo.checkpoint import read_checkpoint
from cross_silo.checkpoint.network import load_weights
from cross_silo.config.model import Model, load_model, make_detector
from cross_silo.data.image_file import BadImageError, decode_image
from cross_silo.errors import UserError
from cross_silo.evaluation.predict import without_objects
from cross_silo.export.agreement import compare
from cross_silo.export.files import INPUT_NAME, require_packages, run, write
from cross_silo.mistnet.inference import as_trained

if TYPE_CHECKING:
    from cross_silo.detector import Detector


def export_checkpoint(
    config: str, checkpoint: str, file_format: str, image_path: Path, batch: int, out: Path
) -> Dict[str, Any]:
    """Write ``out`` and ``{out}.json``, which says what the file takes and gives; return that and the check's result.

    Args:
        config: model YAML.
        image_path: an image with objects; the file's detections there must be the network's.
        batch: images that the file takes at once.

    Raises:
        UserError: something given is wrong, the format has no such operator, or the file detects otherwise.
            Nothing is written then.
    """
    if batch < 1:
        raise UserError(f"--batch is {batch}, expected at least 1")
    require_packages(file_format)
    model = load_model(config)
    weights, info = read_checkpoint(checkpoint)
    detector = make_detector(model, len(info.classes) or None)
    if not hasattr(detector, "export_cell"):
        raise UserError(
            f"{config}: detector {model.config.detector} has no export_cell; "
            "expected the members of cross_silo.export.Exportable"
        )
    detector = as_trained(detector, info)
    image = network_input(image_path, detector)
    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    network = detector.build_network()
    load_weights(network, weights, info, f"checkpoint {checkpoint}")
    expected = detector.predictor(network)(_repeated(image, model.config.eval_batch_size))[:1]
    if not len(expected[0][0]):
        raise UserError(f"--image {image_path}: the network detects nothing there; expected an image with objects")

    cell = detector.export_cell(network, batch, file_format)
    images = _repeated(image, batch)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            path = Path(scratch) / f"model.{file_format}"
            write(cell, file_format, images, detector.export_names, path)
            began = time.perf_counter()
            outputs = run(path, file_format, images)
            seconds = time.perf_counter() - began
            agreement = compare(expected * batch, detector.export_detections(outputs))
            if not agreement.holds:
                raise UserError(
                    f"--format {file_format}: on {image_path} the network detects {agreement.expected} objects, the "
                    f"exported file {agreement.found}, of which {agreement.matched} agree; the file is not kept"
                )
            description = describe(model, info.classes, info.round, file_format, images, outputs, detector.export_names)
            described = Path(scratch) / "description.json"
            described.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
            os.replace(path, out)
            os.replace(described, f"{out}.json")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from None
    size = out.stat().st_size
    return {"out": str(out), "bytes": size, "seconds": seconds, "agreement": asdict(agreement), **description}


def network_input(path: Path, detector: "Detector") -> np.ndarray:
    """Return the image at ``path`` as the network takes it: uint8 RGB (H, W, 3)."""
    try:
        pixels = decode_image(path.read_bytes())
    except OSError as error:
        raise UserError(f"--image {path}: {error.strerror}") from None
    except BadImageError as error:
        raise UserError(f"--image {path}: {error}") from None
    return without_objects(pixels, detector.eval_transforms()).image


def describe(
    model: Model,
    classes: "tuple[str, ...]",
    round: int,
    file_format: str,
    images: np.ndarray,
    outputs: List[np.ndarray],
    names: "tuple[str, ...]",
) -> Dict[str, Any]:
    """Return what a program that runs the file needs to know."""
    return {
        "format": file_format,
        "detector": model.config.detector,
        "round": round,
        "classes": list(classes),
        "inputs": {INPUT_NAME: {"dtype": str(images.dtype), "shape": list(images.shape)}},
        "outputs": {
            name: {"dtype": str(output.dtype), "shape": list(output.shape)} for name, output in zip(names, outputs)
        },
    }


def _repeated(image: np.ndarray, images: int) -> np.ndarray:
    return np.repeat(image[None], images, axis=0)
