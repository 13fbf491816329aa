"""A detector over a COCO set: every image once, boxes back in original pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.data.transforms import ResizeAndPad
from cross_silo.errors import UserError
from cross_silo.evaluation.predict import run_detector
from tests.support.colour_squares import IDS, write_set


class Detector:
    """Only what run_detector asks for."""

    def eval_transforms(self):
        return [ResizeAndPad(32, 32)]


def boxes_of_colours(images):
    """Return the exact extent of each pure colour in images (N, 32, 32, 3)."""
    found = []
    for image in images:
        boxes = []
        for label in range(3):
            ys, xs = np.nonzero((image[:, :, label] > 140) & (np.delete(image, label, axis=2).max(axis=2) < 100))
            if len(ys):
                boxes.append(([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], label))
        found.append(
            (
                np.array([box for box, _ in boxes], np.float32).reshape(-1, 4),
                np.full(len(boxes), 0.5, np.float32),
                np.array([label for _, label in boxes], np.int32),
            )
        )
    return found


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_every_object_is_found_in_original_pixels_whatever_the_batch(tmp_path, batch_size):
    dataset = read_coco(write_set(tmp_path))
    sizes = []

    def predictor(images):
        sizes.append(images.shape)
        assert images.dtype == np.uint8
        return boxes_of_colours(images)

    found = run_detector(predictor, Detector(), dataset, tmp_path / "images", batch_size, (32, 32))
    assert sizes == [(batch_size, 32, 32, 3)] * -(-5 // batch_size)
    assert len(found) == len(dataset.annotations) == 15
    by_object = {(entry["image_id"], entry["category_id"]): entry["bbox"] for entry in found}
    for annotation in dataset.annotations:
        box = by_object[annotation["image_id"], annotation["category_id"]]
        np.testing.assert_allclose(box, annotation["bbox"], atol=4)  # the images are halved on the way
    assert {entry["category_id"] for entry in found} == set(IDS)
    json.dumps(found)


def test_grey_images_become_rgb(tmp_path):
    path = write_set(tmp_path, num_images=1)
    Image.new("L", (64, 48), 90).save(tmp_path / "images" / "1.png")
    seen = []
    run_detector(
        lambda images: seen.append(images) or boxes_of_colours(images),
        Detector(), read_coco(path), tmp_path / "images", 1, (32, 32),
    )  # fmt: skip
    assert (seen[0][0, :24] == 90).all()


def test_wrong_images_are_named(tmp_path):
    dataset = read_coco(write_set(tmp_path))
    arguments = (boxes_of_colours, Detector(), dataset, tmp_path / "images", 2, (32, 32))
    image = tmp_path / "images" / "3.png"
    content = image.read_bytes()
    Image.new("RGB", (48, 64)).save(image)
    with pytest.raises(UserError, match=r"image 3: .*3\.png is 64 x 48 .*expected 48 x 64"):
        run_detector(*arguments)
    image.write_bytes(content[:100])
    with pytest.raises(UserError, match=r"image 3: .*decoded"):
        run_detector(*arguments)
    image.unlink()
    with pytest.raises(UserError, match=r"image 3: .*3\.png: No such file"):
        run_detector(*arguments)
