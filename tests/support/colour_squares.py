"""A COCO set of squares in pure colours that the tiny detector finds: class 0, 1, 2 is red, green, blue."""

import json

import numpy as np
from PIL import Image

NAMES = ("red", "green", "blue")
IDS = (3, 7, 11)


def write_set(directory, num_images=5, height=48, width=64, names=NAMES):
    """Write images/ and annotations.json, one square of each class an image; return the json's path."""
    (directory / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in range(1, num_images + 1):
        pixels = np.full((height, width, 3), 40, np.uint8)
        for label, category in enumerate(IDS):
            x, y = 20 * label + int(rng.integers(0, 4)), int(rng.integers(0, 16))
            side = int(rng.integers(10, 16))
            pixels[y : y + side, x : x + side] = np.eye(3, dtype=np.uint8)[label] * 255
            box = [x, y, side, side]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box,
                 "area": side * side, "iscrowd": 0}
            )  # fmt: skip
        Image.fromarray(pixels).save(directory / "images" / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width})
    categories = [{"id": category, "name": name} for category, name in zip(IDS, names)]
    path = directory / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
