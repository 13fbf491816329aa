"""Features on disk: written in shards, resumed, read by number; what a silo could make up is refused."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet.features import FeatureManifest, FeatureRecord, FeatureShards, read_manifest
from cross_silo.mistnet.spec import FeatureSpec
from cross_silo.mistnet.writer import PROGRESS_NAME, FeatureWriter, is_whole

SPEC = FeatureSpec(
    cut=2,
    shape=(3, 5, 7),
    bits=105,
    p=1.0,
    q=0.0,
    epsilon=None,
    convention="half",
    thresholds_sha256="a" * 64,
    extractor_sha256="b" * 64,
    detector="yolov5",
    height=32,
    width=48,
    categories=("cell", "plate"),
    label_epsilon=None,
    box_jitter=0.0,
)
SHARD_BYTES = 4 * SPEC.packed_bytes


def record(number, **changes):
    rng = np.random.default_rng(number)
    bits = rng.integers(0, 256, SPEC.packed_bytes).astype(np.uint8)
    bits[-3:] = 0  # what a reader that takes bytes for text would lose
    labels = np.float32([[1, 2, 30, 20 + box, box % 2, 0] for box in range(number % 3)]).reshape(-1, 6)
    values = {"bits": bits, "labels": labels, "id": f"{number:064x}"}
    return FeatureRecord(**{**values, **changes})


def write(directory, numbers, spec=SPEC):
    writer = FeatureWriter(directory, spec, SHARD_BYTES)
    for number in numbers[writer.done :]:
        writer.add(record(number))
    return writer.finish()


def assert_same(found, expected):
    np.testing.assert_array_equal(found.bits, expected.bits)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.labels.shape == expected.labels.shape and found.id == expected.id


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    directory = tmp_path_factory.mktemp("silo") / "features"
    write(directory, range(10))
    return directory


def test_are_read_by_number(ten):
    shards = FeatureShards(ten)
    assert len(shards) == 10 and shards.spec == SPEC
    for number, found in zip((9, 0, 4, 4, 3), shards.records([9, 0, 4, 4, 3])):
        assert_same(found, record(number))
    assert_same(shards.record(7), record(7))


def test_the_manifest_lists_every_file(ten):
    content = json.loads((ten / "manifest.json").read_text())
    assert {file["name"] for file in content["files"]} == set(os.listdir(ten)) - {"manifest.json"}
    for file in content["files"]:
        data = (ten / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert [file["images"] for file in content["files"]] == [4, 0, 4, 0, 2, 0]
    assert (content["shape"], content["bits"], content["count"]) == ([3, 5, 7], 105, 10)


def test_overhead_is_small(ten):
    """MindRecord's own default is 16 MiB a file."""
    assert sum(os.path.getsize(ten / name) for name in os.listdir(ten)) < 3 * (80 << 10)


def test_many_small_records_fit_the_header(tmp_path):
    writer = FeatureWriter(tmp_path / "features", SPEC)
    some = record(2)
    for number in range(40_000):
        writer.add(replace(some, id=f"{number:064x}"))
    assert writer.finish().count == 40_000
    assert FeatureShards(tmp_path / "features").record(39_999).id == f"{39_999:064x}"


def test_an_interrupted_pass_goes_on_after_the_last_shard(tmp_path, ten):
    directory = tmp_path / "features"
    writer = FeatureWriter(directory, SPEC, SHARD_BYTES)
    for number in range(6):
        writer.add(record(number))
    (directory / "features.00001.mindrecord").write_bytes(b"half a shard")
    assert not is_whole(directory)
    with pytest.raises(UserError, match=r"manifest.json: No such file.*expected a silo's finished features"):
        FeatureShards(directory)
    assert FeatureWriter(directory, SPEC, SHARD_BYTES).done == 4
    write(directory, range(10))
    assert is_whole(directory) and PROGRESS_NAME not in os.listdir(directory)
    for found, expected in zip(FeatureShards(directory).records(range(10)), FeatureShards(ten).records(range(10))):
        assert_same(found, expected)


def test_bits_are_drawn_under_one_specification(tmp_path):
    directory = tmp_path / "features"
    FeatureWriter(directory, SPEC)  # killed before the first shard
    with pytest.raises(UserError, match="extractor_sha256 is 'cccc.* in this job, 'bbbb.* in .*features; expected"):
        FeatureWriter(directory, replace(SPEC, extractor_sha256="c" * 64))


def test_a_silo_without_images_has_no_features(tmp_path):
    with pytest.raises(UserError, match="has no images"):
        write(tmp_path / "features", [])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": np.float32([[1, 2, 49, 20, 0, 0]])}, "expected a box inside 48 x 32 pixels"),
        ({"labels": np.float32([[1, 2, 1, 20, 0, 0]])}, "expected a box inside"),
        ({"labels": np.float32([[1, 2, 3, 20, 2, 0]])}, "a class below 2"),
        ({"labels": np.float32([[1, 2, 3, 20, 0.5, 0]])}, "a class below 2"),
        ({"labels": np.float32([[1, 2, 3, 20, 0, 7]])}, "crowd 0 or 1"),
        ({"labels": np.float32([[1, np.nan, 3, 20, 0, 0]])}, "not finite"),
        ({"id": "person_0017.jpg"}, "id 'person_0017.jpg', expected 64 hex digits"),
    ],
)
def test_records_that_no_edge_writes_are_refused(tmp_path, changes, problem):
    directory = tmp_path / "features"
    writer = FeatureWriter(directory, SPEC)
    writer.add(record(1, **changes))
    writer.finish()
    with pytest.raises(UserError, match=problem):
        FeatureShards(directory).record(0)


def test_bits_of_another_size_are_refused(tmp_path):
    directory = tmp_path / "features"
    write(directory, [1])
    content = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**content, "shape": [3, 5, 8], "bits": 120}))
    with pytest.raises(UserError, match="14 bytes of bits, expected 15"):
        FeatureShards(directory).record(0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "x"}, r"found format \('x', 1\)"),
        ({"count": 9}, "its list of files is damaged"),
        ({"files": []}, "its list of files is damaged"),
        ({"files": [{"name": "../x", "bytes": 1, "sha256": "", "images": 10}]}, "its list of files is damaged"),
        ({"p": 2}, "is damaged"),
        ({"epsilon": "1"}, "epsilon: found '1'"),
    ],
)
def test_a_damaged_manifest_is_refused(ten, changes, problem):
    content = {**json.loads((ten / "manifest.json").read_text()), **changes}
    with pytest.raises(UserError, match=problem):
        FeatureManifest.from_json(content, "manifest.json")


def test_a_shard_that_is_cut_short_is_refused(tmp_path):
    write(tmp_path / "features", [1])
    os.truncate(tmp_path / "features" / "features.00000.mindrecord", 100)
    with pytest.raises(UserError, match=r"features.00000.mindrecord: expected a file of \d+ bytes"):
        read_manifest(tmp_path / "features")
