"""Detect objects in the images of a directory: a picture of each, and results.json with all detections."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from cross_silo import runtime
from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.config.model import load_model, make_detector
from cross_silo.data.coco import write_json
from cross_silo.errors import UserError, run_main
from cross_silo.evaluation.folder import detect_in_folder, open_folder
from cross_silo.evaluation.predict import fill_batch
from cross_silo.mistnet.inference import as_trained
from cross_silo.report.drawing import Box, draw

RESULTS = "results.json"


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint", required=True, help="a job's checkpoint, or a worker's")
    parser.add_argument("--images", required=True, type=Path, help="directory of JPEG and PNG files of any sizes")
    parser.add_argument("--out", required=True, type=Path, help="directory for the pictures and results.json")
    parser.add_argument("--score", type=float, default=0.5, help="least score of a detection that is drawn")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    if not 0 <= arguments.score <= 1:
        raise UserError(f"--score is {arguments.score:g}, expected 0 to 1")
    folder = open_folder(arguments.images)
    if arguments.out.resolve() == arguments.images.resolve():
        raise UserError(f"--out is {arguments.out}, the directory of the images; expected another one")
    model = load_model(arguments.config)
    weights, info = read_checkpoint(arguments.checkpoint)
    detector = as_trained(make_detector(model, len(info.classes) or None), info)
    names = class_names(info, model.config.num_classes)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {arguments.out}: {error.strerror}") from None

    runtime.prepare()
    runtime.start(model.config.seed, model.config.device_target)
    from cross_silo.checkpoint.network import load_weights

    network = detector.build_network()
    load_weights(network, weights, info, f"checkpoint {arguments.checkpoint}")
    predictor = detector.predictor(network)
    batch_size, size = model.config.eval_batch_size, (model.config.img_height, model.config.img_width)
    began = time.monotonic()
    predictor(fill_batch([], batch_size, size))
    compile_seconds = time.monotonic() - began

    began = time.monotonic()
    images: List[Dict[str, Any]] = []
    transforms = detector.eval_transforms()
    for path, pixels, detections in detect_in_folder(folder, predictor, transforms, len(names), batch_size, size):
        drawn = [
            Box(tuple(entry["bbox"]), entry["label"], f"{names[entry['label']]} {entry['score']:.2f}")
            for entry in detections
            if entry["score"] >= arguments.score
        ]
        draw(pixels, drawn).save(arguments.out / f"{path.name}.png", compress_level=1)  # four times as fast
        found = [
            {"class": names[entry["label"]], "score": entry["score"], "bbox": entry["bbox"]} for entry in detections
        ]
        height, width = pixels.shape[:2]
        images.append({"file_name": path.name, "height": height, "width": width, "detections": found})
    seconds = time.monotonic() - began
    for name, reason in folder.skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if not images:
        raise UserError(f"--images {arguments.images}: none of its {len(folder.files)} files is a readable image")
    skipped = [{"file_name": name, "reason": reason} for name, reason in folder.skipped.items()]
    write_json(str(arguments.out / RESULTS), {"classes": list(names), "images": images, "skipped": skipped})
    report = {
        "images": len(images),
        "skipped": skipped,
        "detections": sum(len(image["detections"]) for image in images),
        "compile_seconds": round(compile_seconds, 3),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(images) / seconds, 3),
        "network_images_per_second": round(len(images) / max(folder.predict_seconds, 1e-9), 3),
        "results": str(arguments.out / RESULTS),
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(
            f"{len(images)} images in {seconds:.1f} s: {report['images_per_second']:.1f} images/s with reading and "
            f"drawing, {report['network_images_per_second']:.1f} images/s in the network "
            f"(compiled in {compile_seconds:.1f} s before)\n"
            f"{report['detections']} detections, {len(skipped)} files skipped: {report['results']}"
        )
    return 0


def class_names(info: CheckpointInfo, number: int) -> Tuple[str, ...]:
    """Return the classes that the checkpoint names, or numbers where it names none."""
    return tuple(info.classes) or tuple(f"class {index}" for index in range(number))


if __name__ == "__main__":
    run_main(main)
