"""Each channel's threshold as its median over public images: half of its bits are 1, which tells the most a bit can."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

import numpy as np

from cross_silo import runtime
from cross_silo.checkpoint import read_checkpoint
from cross_silo.checkpoint.replace import written_beside
from cross_silo.config.model import load_model, make_detector
from cross_silo.errors import UserError, run_main
from cross_silo.evaluation.folder import open_folder
from cross_silo.evaluation.predict import fill_batch, without_objects
from cross_silo.mistnet.cut_detector import legal_cut
from cross_silo.mistnet.feature_pass import Extract

if TYPE_CHECKING:
    from cross_silo.data.transforms import Transform

MOST_IMAGES = 256
POSITIONS = 256
"""Of each image's map, spread evenly: neighbours say the same."""


def channel_medians(
    directory: Path, extract: Extract, transforms: "Sequence[Transform]", batch_size: int, height: int, width: int
) -> np.ndarray:
    """Return the median of each channel at the cut, float32 (C,), over the images of ``directory``.

    Args:
        directory: JPEG and PNG files, of which up to 256 are read; others are passed over.
        transforms: from a decoded image to the network's input.
        batch_size: images that ``extract`` takes at once.

    Raises:
        UserError: there is no image.
    """
    values: List[np.ndarray] = []
    waiting: List[np.ndarray] = []

    def flush() -> None:
        samples = [without_objects(pixels, transforms) for pixels in waiting]
        activations = extract(fill_batch(samples, batch_size, (height, width)))[: len(samples)]
        flat = activations.reshape(*activations.shape[:2], -1)
        places = np.unique(np.linspace(0, flat.shape[2] - 1, POSITIONS).astype(int))
        values.extend(flat[:, :, places])
        waiting.clear()

    for _, pixels in open_folder(directory).read():
        waiting.append(pixels)
        if len(waiting) == batch_size:
            flush()
        if len(values) + len(waiting) >= MOST_IMAGES:
            break
    if waiting:
        flush()
    if not values:
        raise UserError(f"mistnet.calibration_images {directory}: has no JPEG or PNG image")
    return np.median(np.concatenate(values, 1), 1).astype(np.float32)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the child process."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.mistnet.calibrate", description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--cut_layer", required=True, help="where the network is cut")
    parser.add_argument("--extractor", required=True, help="checkpoint of the tensors before the cut")
    parser.add_argument("--images", required=True, type=Path, help="directory of public images")
    parser.add_argument("--out", required=True, help="file for the thresholds (npy)")
    arguments = parser.parse_args(argv)
    model = load_model(arguments.config)
    c = model.config
    # Nothing before the cut depends on the number of classes.
    detector = make_detector(model, c.num_classes or 1)
    runtime.prepare()
    runtime.start(c.seed, c.device_target)
    from cross_silo.mistnet.extractor import build_extract

    tensors, _ = read_checkpoint(arguments.extractor)
    cut = legal_cut(detector, arguments.cut_layer)
    extract = build_extract(detector, cut, tensors, c.eval_batch_size, c.img_height, c.img_width)
    transforms = detector.eval_transforms()
    medians = channel_medians(arguments.images, extract, transforms, c.eval_batch_size, c.img_height, c.img_width)
    with written_beside(arguments.out, durable=False) as descriptor, open(descriptor, "wb", closefd=False) as file:
        np.save(file, medians)
    print(f"{len(medians)} thresholds from {medians.min():.4g} to {medians.max():.4g}")
    return 0


if __name__ == "__main__":
    run_main(main)
