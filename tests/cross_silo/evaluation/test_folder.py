"""A detector over a directory: images of any size, and files that are none."""

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.transforms import ResizeAndPad
from cross_silo.errors import UserError
from cross_silo.evaluation.folder import detect_in_folder, open_folder

SIZES = [(30, 20), (64, 128), (300, 100), (1, 1), (40, 40)]


def whole(images):
    """Find one object a picture: all that is not padding."""
    assert images.shape == (2, 64, 64, 3)
    found = []
    for image in images:
        ys, xs = np.nonzero(image[:, :, 0] > 200)
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(ys) else [0, 0, 0, 0]
        found.append((np.float32([box]), np.float32([0.75]), np.int32([1])))
    return found


def test_images_of_any_size_and_what_is_none(tmp_path):
    for place, (height, width) in enumerate(SIZES):
        Image.new("RGB", (width, height), "white").save(tmp_path / f"{place}.{'png' if place % 2 else 'jpg'}")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "0cut.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-10])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "more").mkdir()
    folder = open_folder(tmp_path)
    found = list(detect_in_folder(folder, whole, [ResizeAndPad(64, 64)], 2, 2, (64, 64)))
    assert [path.name for path, _, _ in found] == ["0.jpg", "1.png", "2.jpg", "3.png", "4.jpg"]
    for (height, width), (_, pixels, [entry]) in zip(SIZES, found):
        assert pixels.shape == (height, width, 3)
        assert (entry["label"], entry["score"]) == (1, 0.75)
        np.testing.assert_allclose(entry["bbox"], [0, 0, width, height], atol=0.01)
    assert folder.skipped == {
        "0cut.jpg": "no end marker: the JPEG file is cut short",
        "gone.png": "No such file or directory",
        "notes.txt": "neither JPEG nor PNG",
    }
    assert folder.predict_seconds > 0


def test_a_directory_that_cannot_be_meant(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such directory"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no files"):
        open_folder(tmp_path)
