"""Batches of pooled features: whose they are, in which order, and that they are a function of seed and position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet.bits import pack
from cross_silo.mistnet.feature_loader import FeatureLoader, Pool, to_features
from cross_silo.mistnet.feature_transforms import FeatureAugmentation
from cross_silo.mistnet.features import FeatureRecord
from cross_silo.mistnet.spec import FeatureSpec
from cross_silo.mistnet.writer import FeatureWriter

SHAPE, P, Q = (3, 2, 5), 0.75, 0.25
SPEC = FeatureSpec(
    cut=4,
    shape=SHAPE,
    bits=30,
    p=P,
    q=Q,
    epsilon=2.0,
    convention="half",
    thresholds_sha256="a" * 64,
    extractor_sha256="b" * 64,
    detector="yolov5",
    height=16,
    width=40,
    categories=("circle", "square"),
    label_epsilon=None,
    box_jitter=0.0,
)
COUNTS = {"silo_1": 5, "silo_0": 6}


def bits_of(silo, index):
    return np.random.default_rng([ord(silo[-1]), index]).integers(2, size=30).astype(bool)


def labels_of(silo, index):
    """One box for each image but the first, whose x1 tells the image."""
    if not index:
        return np.zeros((0, 6), np.float32)
    return np.float32([[index, 0, 30 if silo == "silo_1" else 31, 8, index % 2, 0]])


def write(directory, silo, spec=SPEC):
    writer = FeatureWriter(directory, spec, shard_bytes=16)
    for index in range(COUNTS[silo]):
        bits = np.frombuffer(pack(bits_of(silo, index)), np.uint8)
        writer.add(FeatureRecord(bits, labels_of(silo, index), f"{index:064x}"))
    writer.finish()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("features")
    for silo in COUNTS:
        write(directory / f"dir_{silo}", silo)
    return directory


def pool_of(root, **options):
    return Pool(root, {silo: f"dir_{silo}" for silo in COUNTS}, **options)


def all_images():
    """(bits, labels) of the pool in its order: by silos' names."""
    return [(bits_of(s, i), labels_of(s, i)) for s in sorted(COUNTS) for i in range(COUNTS[s])]


@pytest.mark.parametrize("cache_mb", [0, 16])
def test_records_of_all_silos_in_any_order(root, cache_mb):
    pool = pool_of(root, cache_mb=cache_mb)
    expected = all_images()
    assert len(pool) == 11
    for _ in range(2):
        rows = [10, 0, 3, 6, 3, 5]
        for row, record in zip(rows, pool.records(rows)):
            assert record.bits.tobytes() == pack(expected[row][0])
            assert np.array_equal(record.labels, expected[row][1])
    assert len(pool._kept) == (0 if cache_mb == 0 else 5)


def test_features_are_debiased(root):
    [record] = pool_of(root).records([7])
    expected = (all_images()[7][0].reshape(SHAPE) - Q) / (P - Q)
    assert np.allclose(to_features(record, SPEC), expected, atol=1e-6)


def test_an_epoch_shows_every_image_and_is_filled_up(root):
    with FeatureLoader(pool_of(root), 4, 2, seed=3) as loader:
        assert (loader.num_images, loader.steps_per_epoch) == (11, 3)
        first, second = (list(loader.epoch(epoch)) for epoch in (0, 1))
    rows = np.concatenate([batch.image_ids for batch in first])
    assert set(rows) == set(range(11)) and len(rows) == 12 and rows[-1] == rows[0]
    assert not np.array_equal(rows, np.concatenate([batch.image_ids for batch in second]))
    expected = all_images()
    for batch in first + second:
        assert batch.image.shape == (4, *SHAPE) and batch.image.dtype == np.float32
        for place, row in enumerate(batch.image_ids):
            bits, labels = expected[row]
            assert np.array_equal(batch.image[place] > 0, bits.reshape(SHAPE))
            assert batch.valid[place].sum() == len(labels)
            if len(labels):
                assert np.array_equal(batch.boxes[place, 0], labels[0, :4]) and batch.labels[place, 0] == labels[0, 4]


def test_a_batch_is_a_function_of_seed_epoch_and_step(root):
    augment = FeatureAugmentation(0.5, 0.4, SPEC.height, SPEC.width)
    with FeatureLoader(pool_of(root), 4, 2, 3, augment) as loader:
        run = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
    with FeatureLoader(pool_of(root, cache_mb=0), 4, 2, 3, augment) as loader:
        again = list(loader.epoch(1, first_step=1))
    for one, other in zip(run[4:], again):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.boxes, other.boxes)
    with FeatureLoader(pool_of(root), 4, 2, 4, augment) as loader:
        assert not np.array_equal(next(loader.epoch(0)).image, run[0].image)


def test_features_that_do_not_belong_together(tmp_path):
    write(tmp_path / "dir_silo_0", "silo_0")
    write(tmp_path / "dir_silo_1", "silo_1", replace(SPEC, cut=3))
    with pytest.raises(UserError, match="cut is 4 in .*dir_silo_1.*, 3 in|cut is 3 in .*dir_silo_1"):
        pool_of(tmp_path)
    with pytest.raises(UserError, match="no silo"):
        Pool(tmp_path, {})
