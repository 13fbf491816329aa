"""Manifests: what is refused, and by which line."""

import json

import pytest

from cross_silo.data.coco import Category
from cross_silo.data.manifest import Manifest, Shard, read_manifest, write_manifest
from cross_silo.errors import UserError


@pytest.fixture
def directory(tmp_path):
    for name in ("silo.0.mindrecord", "silo.0.mindrecord.db"):
        (tmp_path / name).write_bytes(b"12345")
    manifest = Manifest(
        categories=(Category(3, "é", 0),),
        num_images=4,
        num_boxes=5,
        num_crowd=1,
        boxes_by_class=(5,),
        most_boxes=2,
        clipped_boxes=0,
        skipped_images={"missing": ["a.jpg"]},
        skipped_boxes={"outside": [7]},
        keep_empty=False,
        source="train_0.json",
        source_sha256="00",
        shards=(Shard("silo.0.mindrecord", 5),),
    )
    write_manifest(str(tmp_path), manifest)
    assert read_manifest(tmp_path) == manifest
    return tmp_path


def refused(directory, expected):
    with pytest.raises(UserError, match=expected) as caught:
        read_manifest(directory)
    assert "\n" not in str(caught.value)


def test_no_directory(tmp_path):
    refused(tmp_path / "mindrecord_9", "mindrecord_9: no such directory")


def test_unfinished_directory(directory):
    (directory / "manifest.json").unlink()
    refused(directory, "has no manifest.json: its conversion is unfinished")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "other", "version": 1}', '{"format": "cross_silo.mindrecord"}']
)
def test_foreign_manifest(directory, text):
    (directory / "manifest.json").write_text(text)
    refused(directory, "manifest.json: (cannot be read|found format)")


@pytest.mark.parametrize("key", ["categories", "num_images", "shards"])
def test_damaged_manifest(directory, key):
    content = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    del content[key]
    (directory / "manifest.json").write_text(json.dumps(content))
    refused(directory, f"is damaged .*{key}")


def test_cut_shard(directory):
    (directory / "silo.0.mindrecord").write_bytes(b"123")
    refused(directory, "silo.0.mindrecord: found 3 bytes; expected a shard of 5 bytes")


@pytest.mark.parametrize("name", ["silo.0.mindrecord", "silo.0.mindrecord.db"])
def test_missing_file(directory, name):
    (directory / name).unlink()
    refused(directory, f"{name}: found nothing")
