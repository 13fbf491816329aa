"""Shards read back with MindDataset: the same bytes and boxes, moved directories, counts, interruptions."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cross_silo.data import mindrecord_writer
from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_reader import read_records
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.errors import UserError


def read_all(directory):
    manifest = read_manifest(directory)
    return list(read_records(str(directory), manifest, range(manifest.num_images)))


def expected_rows(dataset, image):
    rows = []
    for annotation in dataset.annotations_by_image()[image["id"]]:
        x, y, w, h = annotation["bbox"]
        rows.append([x, y, x + w, y + h, {2: 0, 5: 1}[annotation["category_id"]], annotation["iscrowd"]])
    return np.array(rows, np.float32).reshape(-1, 6)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("forked", [False, True])
def test_records_come_back_as_they_were(tmp_path, make_silo, monkeypatch, shards, forked):
    monkeypatch.setattr(mindrecord_writer, "WORTH_FORKING", 0 if forked else 10**9)
    monkeypatch.setattr(mindrecord_writer, "BATCH_ROWS", 2)
    dataset, image_dir = make_silo()
    seen = []
    manifest = write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=shards, progress=seen.append)
    assert read_manifest(tmp_path / "mindrecord_0") == manifest
    assert len(manifest.shards) == shards
    assert seen[-1] == 10
    records = read_all(tmp_path / "mindrecord_0")
    assert len(records) == 10
    for image, record in zip(dataset.images, records):
        with open(os.path.join(image_dir, image["file_name"]), "rb") as file:
            assert record["image"].tobytes() == file.read()
        np.testing.assert_allclose(record["annotation"], expected_rows(dataset, image))
        assert int(record["image_id"]) == image["id"]
        assert str(record["file"]) == image["file_name"]


def test_manifest_counts(tmp_path, make_silo):
    dataset, image_dir = make_silo()
    manifest = write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=2)
    assert (manifest.num_images, manifest.num_boxes, manifest.num_crowd, manifest.most_boxes) == (10, 16, 3, 3)
    assert manifest.boxes_by_class == (6, 10)
    assert [(c.id, c.name) for c in manifest.categories] == [(2, "two"), (5, "five")]
    assert manifest.category_ids == (2, 5)
    assert (manifest.source, manifest.source_sha256) == ("train_0.json", dataset.sha256)


def test_a_moved_directory_can_be_read(tmp_path, make_silo):
    dataset, image_dir = make_silo()
    write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=2)
    (tmp_path / "elsewhere").mkdir()
    os.rename(tmp_path / "mindrecord_0", tmp_path / "elsewhere" / "mindrecord_5")
    assert len(read_all(tmp_path / "elsewhere" / "mindrecord_5")) == 10


def test_two_conversions_give_the_same_records(tmp_path, make_silo, monkeypatch):
    dataset, image_dir = make_silo()
    write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=3)
    monkeypatch.setattr(mindrecord_writer, "WORTH_FORKING", 0)
    write_shards(dataset, image_dir, str(tmp_path / "mindrecord_1"), shards=3)
    for first, second in zip(read_all(tmp_path / "mindrecord_0"), read_all(tmp_path / "mindrecord_1")):
        assert {key: value.tobytes() for key, value in first.items()} == {
            key: value.tobytes() for key, value in second.items()
        }


@pytest.mark.parametrize("forked", [False, True])
def test_what_is_left_out_stands_in_the_manifest(tmp_path, make_silo, monkeypatch, forked):
    monkeypatch.setattr(mindrecord_writer, "WORTH_FORKING", 0 if forked else 10**9)
    dataset, image_dir = make_silo(12, boxes=lambda image: 0 if image in (4, 5) else 1)
    os.remove(os.path.join(image_dir, "0.jpg"))
    with open(os.path.join(image_dir, "2.jpg"), "r+b") as file:
        file.truncate(os.path.getsize(file.name) - 20)
    for index in (1, 3):  # the second of four shards has nothing but 3.png, 4.jpg and 5.png
        with open(os.path.join(image_dir, f"{index}.png"), "wb") as file:
            file.write(b"text")
    dataset.annotations.append({"id": 99, "image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5]})
    dataset.annotations[-2]["bbox"][2] = 0
    manifest = write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=4)
    assert manifest.skipped_images == {
        "missing": ["0.jpg"],
        "header": ["1.png", "3.png"],
        "end": ["2.jpg"],
        "empty": ["4.jpg", "5.png", "11.png"],
    }
    assert manifest.skipped_boxes == {"unknown_image": [99], "degenerate": [10]}
    assert [shard.file for shard in manifest.shards] == ["silo.2.mindrecord", "silo.3.mindrecord"]
    assert [str(record["file"]) for record in read_all(tmp_path / "mindrecord_0")] == [
        "6.jpg",
        "7.png",
        "8.jpg",
        "9.png",
        "10.jpg",
    ]


def test_images_without_boxes_are_kept_on_request(tmp_path, make_silo):
    dataset, image_dir = make_silo(3, boxes=lambda image: 0)
    manifest = write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), keep_empty=True)
    assert (manifest.num_images, manifest.keep_empty) == (3, True)
    assert all(record["annotation"].size < 6 for record in read_all(tmp_path / "mindrecord_0"))


def test_more_shards_than_images(tmp_path, make_silo):
    dataset, image_dir = make_silo(2)
    assert len(write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"), shards=9).shards) == 2
    assert len(read_all(tmp_path / "mindrecord_0")) == 2


def test_large_records_fit_their_page(tmp_path, make_silo):
    dataset, image_dir = make_silo(4)
    with open(os.path.join(image_dir, "1.png"), "ab") as file:
        file.write(bytes(5 << 20))
    write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"))
    assert [len(record["image"].tobytes()) > 5 << 20 for record in read_all(tmp_path / "mindrecord_0")] == [
        False,
        True,
        False,
        False,
    ]


def test_mistakes_are_named_and_leave_nothing(tmp_path, make_silo):
    dataset, image_dir = make_silo(2)
    target = str(tmp_path / "mindrecord_0")
    with pytest.raises(UserError, match="--image_dir"):
        write_shards(dataset, str(tmp_path / "none"), target)
    with pytest.raises(UserError, match="--shards: found 0"):
        write_shards(dataset, image_dir, target, shards=0)
    with pytest.raises(UserError, match="none of its 2 images .* no such file"):
        write_shards(dataset, str(tmp_path), target)
    assert sorted(os.listdir(tmp_path)) == ["images", "train_0.json"]
    write_shards(dataset, image_dir, target)
    with pytest.raises(UserError, match="--overwrite"):
        write_shards(dataset, image_dir, target)
    assert write_shards(dataset, image_dir, target, overwrite=True).num_images == 2


CONVERT = """
import sys, time
import cross_silo.runtime
cross_silo.runtime.prepare()
from cross_silo.data import mindrecord_writer as writer
from cross_silo.data.coco import read_coco
writer.BATCH_ROWS, writer.WORTH_FORKING = 1, int(sys.argv[4])
def progress(done):
    print(done, flush=True)
    time.sleep(0.2)
writer.write_shards(read_coco(sys.argv[1]), sys.argv[2], sys.argv[3], shards=2, progress=progress)
"""


@pytest.mark.parametrize("worth_forking", [0, 10**9])
def test_a_killed_conversion_leaves_no_directory_and_the_next_succeeds(tmp_path, make_silo, worth_forking):
    dataset, image_dir = make_silo()
    target = tmp_path / "mindrecord_0"
    arguments = [dataset.path, image_dir, str(target), str(worth_forking)]
    process = subprocess.Popen([sys.executable, "-c", CONVERT, *arguments], stdout=subprocess.PIPE)
    assert process.stdout.readline().strip()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    with pytest.raises(UserError, match="no such directory"):
        read_manifest(target)
    deadline = time.monotonic() + 20
    while True:  # forked writers hold the lock until they have seen their parent's end
        try:
            write_shards(dataset, image_dir, str(target))
            break
        except UserError as error:
            assert "another process" in str(error)
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert len(read_all(target)) == 10
    assert sorted(os.listdir(tmp_path)) == ["images", "mindrecord_0", "train_0.json"]


def test_the_page_holds_the_largest_file(make_silo):
    dataset, image_dir = make_silo(3)
    assert mindrecord_writer._page_size(dataset, image_dir) == 1 << 20
    with open(os.path.join(image_dir, "0.jpg"), "ab") as file:
        file.truncate(3 << 20)
    assert mindrecord_writer._page_size(dataset, image_dir) == 8 << 20


def test_manifest_is_json_for_everybody(tmp_path, make_silo):
    dataset, image_dir = make_silo(2)
    write_shards(dataset, image_dir, str(tmp_path / "mindrecord_0"))
    content = json.loads((tmp_path / "mindrecord_0" / "manifest.json").read_text(encoding="utf-8"))
    assert content["categories"][0] == {"id": 2, "name": "two", "index": 0}
