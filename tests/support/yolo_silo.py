"""A silo's images as coco128 has them: coco128/images/train2017 and coco128/labels/train2017."""

import numpy as np
from PIL import Image


def write_coco128(directory, images, side=64, seed=0):
    """Write images of one red square each, of class 0."""
    rng = np.random.default_rng(seed)
    pictures, labels = (directory / "coco128" / kind / "train2017" for kind in ("images", "labels"))
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(images):
        pixels = np.full((side, side, 3), 60, np.uint8)
        x, y = rng.integers(0, 3 * side // 4, 2)
        pixels[y : y + side // 4, x : x + side // 4] = (255, 0, 0)
        Image.fromarray(pixels).save(pictures / f"{number}.jpg")
        (labels / f"{number}.txt").write_text(f"0 {x / side + 0.125} {y / side + 0.125} 0.25 0.25\n")
