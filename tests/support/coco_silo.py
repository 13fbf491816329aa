"""A small silo on disk: a COCO file and its images."""

import io
import json

import numpy as np
from PIL import Image

from cross_silo.data.coco import read_coco


def write_silo(
    root,
    num_images=10,
    size=(20, 30),
    boxes=lambda image: image % 3 + 1,
    name="train_0.json",
    seed=0,
    categories=((5, "five"), (2, "two")),
):
    """Write ``num_images`` images of noise and their COCO file below ``root``; return dataset and image directory."""
    rng = np.random.default_rng(seed)
    directory = root / "images"
    directory.mkdir(exist_ok=True)
    height, width = size
    images, annotations = [], []
    for index in range(num_images):
        file_name = f"{index}.{'png' if index % 2 else 'jpg'}"
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG" if index % 2 else "JPEG")
        trailing = b"\0\0\0" if index % 4 == 0 else b""  # what a reader that takes bytes for text would lose
        (directory / file_name).write_bytes(buffer.getvalue() + trailing)
        images.append({"id": 10**10 + index, "file_name": file_name, "height": height, "width": width})
        for box in range(boxes(index)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10**10 + index,
                    "category_id": categories[box % len(categories)][0],
                    "bbox": [box + 0.25, index % 7, 4.5, 6 + box],
                    "iscrowd": int(box == 2),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": text} for number, text in categories],
    }
    path = root / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_coco(path), str(directory)
