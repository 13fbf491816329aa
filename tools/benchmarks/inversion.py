"""How well images can be reconstructed from what MistNet sends: SSIM of a small decoder's output, by epsilon.

The attacker of the MistNet paper (2020) in small: it knows the extractor, trains a decoder on public images that it
sends through extractor and noise itself, as often as it likes, and applies it to the one drawing of a silo's images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.table import Table

from cross_silo import runtime
from cross_silo.checkpoint.pre_trained import unchanged
from cross_silo.checkpoint.tensor_file import read_tensors
from cross_silo.config.mistnet import CONVENTIONS, HALF, LEAST_EPSILON
from cross_silo.config.model import load_model, make_detector
from cross_silo.data.synthetic import draw_image
from cross_silo.data.textures import PUBLIC, TRAINING
from cross_silo.errors import UserError, run_main
from cross_silo.evaluation.folder import open_folder
from cross_silo.evaluation.predict import without_objects
from cross_silo.evaluation.ssim import WINDOW, structural_similarity
from cross_silo.launch.arguments import positive
from cross_silo.mistnet.bits import binarise, debias
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.privacy import Mechanism

RAW, NONE = "raw", "none"
"""Beside numbers: activations as they are, which nobody sends; bits without noise."""
UNRECOGNISABLE = 0.3
"""SSIM below which the paper calls an image so."""
CLASSES = 3
BATCH = 16
LEARNING_RATE = 2e-3


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--checkpoint", required=True, help="pre-trained checkpoint: the extractor is its first layers")
    parser.add_argument("--cut_layer", required=True, help="where the network is cut")
    parser.add_argument(
        "--epsilon", nargs="+", default=[RAW, NONE, "8", "4", "2", "1"], help="numbers, none (bits without noise), raw"
    )
    parser.add_argument("--epsilon_convention", choices=CONVENTIONS, default=HALF)
    parser.add_argument("--public_images", type=Path, help="directory to train the decoder on; else synthetic images")
    parser.add_argument("--images", type=Path, help="directory of images to reconstruct; else synthetic ones")
    parser.add_argument("--num_public", type=positive, default=256, help="images that the decoder is trained on")
    parser.add_argument("--num_images", type=positive, default=64, help="images that it reconstructs")
    parser.add_argument("--steps", type=positive, default=400, help=f"training steps of {BATCH} images")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="PNG file: some images, and below each what was reconstructed")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args(argv)
    for text in arguments.epsilon:
        mechanism_of(text, arguments.epsilon_convention)
    return arguments


def mechanism_of(text: str, convention: str) -> Optional[Mechanism]:
    """Return the noise that ``--epsilon`` names; None for activations as they are."""
    if text in (RAW, NONE):
        return None if text == RAW else Mechanism(None, convention)
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not (math.isfinite(epsilon) and epsilon >= LEAST_EPSILON):
        raise UserError(f"--epsilon: found {text!r}; expected numbers more than 0, {NONE} or {RAW}")
    return Mechanism(epsilon, convention)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    report, rows = measure(arguments)
    if arguments.picture:
        write_picture(arguments.picture, rows)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


def measure(arguments: argparse.Namespace) -> Tuple[Dict[str, Any], List[np.ndarray]]:
    """Return the report, and rows of pictures (K, H, W, 3): images, then their reconstructions by epsilon."""
    model = load_model(arguments.config)
    config = dataclasses.replace(model.config, eval_batch_size=BATCH)
    detector = make_detector(dataclasses.replace(model, config=config), config.num_classes or CLASSES)
    cut = CutDetector(detector, arguments.cut_layer)  # type: ignore[arg-type]
    height, width = config.img_height, config.img_width
    if min(height, width) < WINDOW:
        raise UserError(f"{arguments.config}: images of {height} x {width} pixels; expected at least {WINDOW} each")
    public = read_images(arguments.public_images, detector, arguments.num_public, (height, width), PUBLIC)
    private = read_images(arguments.images, detector, arguments.num_images, (height, width), TRAINING)
    before = tensors_before(cut, arguments.checkpoint)
    runtime.prepare()
    runtime.start(arguments.seed, config.device_target)
    from decoder import Attack

    from cross_silo.mistnet.extractor import build_extract

    extract = build_extract(cut.detector, cut.cut, before, BATCH, height, width)
    known, unknown = (by_batches(extract, images) for images in (public, private))
    scale = float(np.abs(known).mean()) or 1.0

    attack = Attack(cut.shape, height // cut.shape[1], BATCH, LEARNING_RATE)
    shown = min(8, len(private))
    results, pictures = [], [private[:shown]]
    for text in arguments.epsilon:
        mechanism = mechanism_of(text, arguments.epsilon_convention)
        rng = np.random.default_rng(arguments.seed)

        def sent(
            activations: np.ndarray, mechanism: Optional[Mechanism] = mechanism, rng: np.random.Generator = rng
        ) -> np.ndarray:
            if mechanism is None:
                return activations / scale
            bits = binarise(activations, cut.thresholds) ^ (rng.random(activations.shape, np.float32) < mechanism.q)
            return debias(bits, mechanism.p, mechanism.q)

        attack.begin()
        for _ in range(arguments.steps):
            chosen = rng.integers(len(public), size=BATCH)
            attack.step(sent(known[chosen]), public[chosen])
        found = by_batches(attack.reconstruct, sent(unknown))
        error = ((found - private / 255.0) ** 2).mean((1, 2, 3))
        results.append(
            {
                "epsilon": text,
                "p": None if mechanism is None else mechanism.p,
                "ssim": round(float(structural_similarity(found, private / 255.0).mean()), 4),
                "psnr": round(float(-10 * np.log10(error.mean())), 2),
            }
        )
        pictures.append((found[:shown] * 255).astype(np.uint8))
    mean_colour = np.broadcast_to(public.mean((0, 1, 2)) / 255.0, private.shape)
    report = {
        "detector": cut.tag,
        "cut_layer": cut.cut,
        "bits": int(np.prod(cut.shape)),
        "convention": arguments.epsilon_convention,
        "num_public": len(public),
        "num_images": len(private),
        "steps": arguments.steps,
        "nothing_sent_ssim": round(float(structural_similarity(mean_colour, private / 255.0).mean()), 4),
        "results": results,
    }
    return report, pictures


def tensors_before(cut: CutDetector, path: str) -> Dict[str, np.ndarray]:
    """Return the tensors of the layers before the cut that the checkpoint at ``path`` holds, by our names."""
    convert = getattr(cut.detector, "pretrained_value", unchanged)
    found = {}
    for name, value in read_tensors(path).tensors.items():
        ours = cut.detector.map_pretrained(name)
        if ours is not None and cut.is_before(ours, cut.cut):
            found[ours] = np.asarray(convert(name, value), np.float32)
    return found


def read_images(directory: Optional[Path], detector: Any, count: int, size: Tuple[int, int], look: str) -> np.ndarray:
    """Return up to ``count`` images at the network's size, uint8 (K, H, W, 3), of ``directory`` or drawn.

    Raises:
        UserError: ``directory`` has no image.
    """
    if directory is None:
        return np.stack([draw_image(*size, CLASSES, 0, index, look)[0] for index in range(count)])
    transforms = detector.eval_transforms()
    images: List[np.ndarray] = []
    for _, pixels in open_folder(directory).read():
        images.append(without_objects(pixels, transforms).image)
        if len(images) == count:
            break
    if not images:
        raise UserError(f"{directory}: has no JPEG or PNG image")
    return np.stack(images)


def by_batches(function: Any, values: np.ndarray) -> np.ndarray:
    """Return ``function`` of ``values``, BATCH at a time; the last batch is filled up."""
    parts = []
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        parts.append(function(np.resize(batch, (BATCH, *values.shape[1:])))[: len(batch)])
    return np.concatenate(parts)


def write_picture(path: Path, rows: List[np.ndarray]) -> None:
    """Write rows of images as one picture. Raises UserError."""
    from PIL import Image

    whole = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    try:
        Image.fromarray(whole).save(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--picture {path}: {error}") from None


def show(report: Dict[str, Any]) -> None:
    """Print the report as a table."""
    table = Table(
        title=f"{report['detector']} cut at {report['cut_layer']}: {report['num_images']} images, each from "
        f"{report['bits']:,} bits (epsilon: {report['convention']})",
        caption=f"the mean colour of the public images has SSIM {report['nothing_sent_ssim']:.3f}; below "
        f"{UNRECOGNISABLE} an image counts as unrecognisable",
    )
    for column in ("epsilon", "p", "SSIM", "PSNR, dB"):
        table.add_column(column, justify="right")
    for row in report["results"]:
        p = "-" if row["p"] is None else f"{row['p']:.4f}"
        table.add_row(row["epsilon"], p, f"{row['ssim']:.3f}", f"{row['psnr']:.1f}")
    Console().print(table)


if __name__ == "__main__":
    run_main(main)
