"""The training pipeline: every image each epoch, full batches, and the same batches after a restart."""

import itertools
import subprocess
import sys
import threading

import numpy as np
import pytest

from cross_silo.data import loader as module
from cross_silo.data.epochs import epoch_rows
from cross_silo.data.loader import TrainingLoader, augment, other_rows
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.transforms import ColorJitter, HorizontalFlip, MixTransform, ResizeAndPad, Sample
from cross_silo.errors import UserError

FIELDS = ("image", "boxes", "labels", "valid", "image_ids")
TRANSFORMS = (HorizontalFlip(0.5), ResizeAndPad(16, 16), ColorJitter(0.3, 0.3, 0.3, 0.1))


class Blend(ResizeAndPad, MixTransform):
    """The mean of three images with all their boxes."""

    num_others = 2

    def __call__(self, sample, rng, others):
        samples = [super(Blend, self).__call__(each, rng) for each in (sample, *others)]
        sample.image = np.mean([each.image for each in samples], 0).astype(np.uint8)
        for field in ("boxes", "labels", "crowd"):
            setattr(sample, field, np.concatenate([getattr(each, field) for each in samples]))
        return sample


MIXED = (Blend(16, 16), HorizontalFlip(0.5))


@pytest.fixture
def open_loader(tmp_path, make_silo):
    """Return a function that opens a loader over a silo of ``num_images``."""
    opened = []
    before = set(threading.enumerate())

    def make(num_images=10, batch_size=4, max_boxes=4, seed=0, transforms=TRANSFORMS, cache_mb=1, **silo):
        directory = tmp_path / f"mindrecord_{num_images}"
        if not directory.exists():
            write_shards(*make_silo(num_images, **silo), str(directory), shards=2, keep_empty=True)
        opened.append(TrainingLoader(str(directory), transforms, batch_size, max_boxes, seed, cache_mb))
        return opened[-1]

    yield make
    for loader in opened:
        loader.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "prefetch"]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field), err_msg=field)


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (8, 4), (3, 4), (1, 4), (5, 1), (2, 7)])
def test_every_image_is_seen_and_every_batch_is_full(open_loader, num_images, batch_size):
    loader = open_loader(num_images, batch_size)
    assert loader.num_images == num_images
    assert loader.steps_per_epoch == -(-num_images // batch_size)
    for epoch in range(3):
        batches = list(loader.epoch(epoch))
        assert len(batches) == loader.steps_per_epoch
        assert {batch.image.shape for batch in batches} == {(batch_size, 16, 16, 3)}
        ids, counts = np.unique(np.concatenate([batch.image_ids for batch in batches]), return_counts=True)
        assert ids.tolist() == [10**10 + index for index in range(num_images)]
        assert counts.max() - counts.min() <= 1


def test_boxes_and_classes_reach_the_batch(open_loader):
    loader = open_loader(10, 4, transforms=[ResizeAndPad(20, 30)])
    assert (loader.num_classes, [c.name for c in loader.categories], loader.most_boxes) == (2, ["two", "five"], 3)
    for batch in loader.epoch(0):
        for row, image_id in enumerate(batch.image_ids.tolist()):
            index = image_id - 10**10
            count = index % 3 + 1
            assert batch.valid[row].tolist() == [1, 1, -1, 0][:count] + [0] * (4 - count)
            assert batch.labels[row, :count].tolist() == [1, 0, 1][:count]
            for box in range(count):
                expected = [box + 0.25, index % 7, box + 4.75, min(index % 7 + 6 + box, 20)]
                np.testing.assert_allclose(batch.boxes[row, box], expected)


def test_epochs_differ_in_order_and_augmentation(open_loader):
    loader = open_loader(12)
    first, second = (np.concatenate([b.image_ids for b in loader.epoch(e)]).tolist() for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("transforms", [TRANSFORMS, MIXED])
@pytest.mark.parametrize("cache_mb", [0, 1])
def test_a_restarted_worker_gets_the_batches_it_would_have_got(open_loader, transforms, cache_mb, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_ONCE", 5)  # batches and reads do not end together
    keys = {"transforms": transforms, "cache_mb": cache_mb}
    loader = open_loader(11, **keys)
    epochs = [list(loader.epoch(epoch)) for epoch in range(3)]
    assert_same(list(open_loader(11, **keys).epoch(1, 2)), epochs[1][2:])
    again = open_loader(11, **keys)
    assert_same(list(again.epoch(2)), epochs[2])
    assert_same(list(again.epoch(0, 1)), epochs[0][1:])
    assert list(again.epoch(0, loader.steps_per_epoch)) == []
    assert not np.array_equal(next(open_loader(11, seed=1, **keys).epoch(0)).image, epochs[0][0].image)


@pytest.mark.parametrize("transforms", [TRANSFORMS, MIXED])
def test_batches_are_the_same_however_many_images_are_kept_and_read_at_once(open_loader, transforms, monkeypatch):
    expected = [list(open_loader(11, transforms=transforms).epoch(epoch)) for epoch in range(2)]
    for cache_mb, at_once in ((0, 1), (0, 256), (1, 7)):
        monkeypatch.setattr(module, "READ_AT_ONCE", at_once)
        loader = open_loader(11, transforms=transforms, cache_mb=cache_mb)
        for epoch in range(2):
            assert_same(list(loader.epoch(epoch)), expected[epoch])


def test_an_image_is_mixed_with_others_of_its_silo(open_loader):
    class Stack(Blend):
        """The images below each other."""

        def __call__(self, sample, rng, others):
            sample.image = np.concatenate([sample.image, *(other.image for other in others)])
            return sample

    plain = {}
    for batch in open_loader(9, 4, seed=3, transforms=[ResizeAndPad(20, 30)]).epoch(0):
        plain.update(zip(batch.image_ids.tolist(), batch.image))
    loader = open_loader(9, 4, seed=3, transforms=[Stack(20, 30)])
    partners = set()
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            for image_id, image in zip(batch.image_ids.tolist(), batch.image):
                first, *others = image.reshape(3, 20, 30, 3)
                np.testing.assert_array_equal(first, plain[image_id])
                names = [[key for key in plain if np.array_equal(plain[key], other)] for other in others]
                assert [len(name) for name in names] == [1, 1]
                partners.add((image_id, names[0][0], names[1][0]))
    assert len(partners) > 9


@pytest.mark.parametrize("transforms", [[Blend(16, 16)], MIXED])
def test_a_silo_of_one_image_mixes_it_with_itself(open_loader, transforms):
    (batch,) = open_loader(1, 2, transforms=transforms).epoch(0)
    assert batch.valid.tolist() == [[1, 1, 1, 0]] * 2
    assert batch.labels.tolist() == [[1, 1, 1, 0]] * 2


def test_a_mixing_transform_stands_first(open_loader):
    with pytest.raises(ValueError, match="first"):
        open_loader(3, transforms=[ResizeAndPad(16, 16), Blend(16, 16)])


def test_other_images_are_drawn_evenly_and_by_seed_epoch_and_row_alone():
    drawn = {key: other_rows(10, 3, *key) for key in itertools.product((0, 1), (0, 1, 2), range(50))}
    assert drawn == {key: other_rows(10, 3, *key) for key in drawn}
    counts = np.bincount(np.concatenate(list(drawn.values())), minlength=10)
    assert counts.sum() == 900
    assert (abs(counts - 90) < 40).all()
    assert len({tuple(rows) for rows in drawn.values()}) > 200


def test_randomness_of_transforms_is_a_function_of_seed_epoch_and_image():
    def flips(seed, epoch):
        rows = []
        for image_id in range(-20, 20):
            sample = Sample(np.zeros((4, 6, 3), np.uint8), np.array([[0, 0, 1, 1]], np.float32), *np.zeros((2, 1), int))
            rows.append(augment(image_id, sample, [], [HorizontalFlip(0.5)], seed, epoch).boxes[0, 0] > 0)
        return rows

    assert flips(1, 2) == flips(1, 2)
    assert flips(1, 2) != flips(1, 3)
    assert flips(1, 2) != flips(2, 2)
    assert 8 < sum(flips(1, 2)) < 32


def test_an_abandoned_epoch_disturbs_nothing(open_loader):
    loader = open_loader(11)
    expected = list(loader.epoch(0))
    next(loader.epoch(1))
    assert_same(list(loader.epoch(0)), expected)
    part = loader.epoch(0)
    taken = [next(part)]
    assert_same(taken + list(loader.epoch(0, 1)), expected)


def test_close_and_go_on(open_loader):
    loader = open_loader(9)
    expected = list(loader.epoch(0))
    epoch = loader.epoch(0)
    taken = [next(epoch)]
    loader.close()
    assert_same(taken + list(epoch), expected)


def test_boxes_without_room_are_counted(open_loader):
    loader = open_loader(9, 3, max_boxes=2)
    list(loader.epoch(0))
    assert loader.overflow_boxes == 3


def test_waiting_is_measured(open_loader):
    loader = open_loader(6)
    assert loader.wait_seconds == 0.0
    list(loader.epoch(0))
    assert loader.wait_seconds > 0


def test_images_without_boxes(open_loader):
    loader = open_loader(5, boxes=lambda image: 0)
    assert all((batch.valid == 0).all() for batch in loader.epoch(0))


def test_an_error_in_a_transform_reaches_the_consumer_and_the_next_call_starts_anew(open_loader):
    def broken(sample, rng):
        raise ArithmeticError("broken")

    loader = open_loader(5, transforms=[broken])
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="broken"):
            next(loader.epoch(0))


def test_mistakes_are_named(open_loader, tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        TrainingLoader(str(tmp_path / "mindrecord_77"), TRANSFORMS, 1, 1, 0)
    loader = open_loader(5)
    with pytest.raises(UserError, match="batch_size"):
        open_loader(5, batch_size=0)
    with pytest.raises(ValueError, match="first step 9"):
        next(loader.epoch(0, 9))


def test_rows_of_an_epoch():
    rows = epoch_rows(10, 4, 3, 5)
    assert len(rows) == 12
    assert sorted(rows[:10]) == list(range(10))
    assert rows[10:] == rows[:2]
    assert epoch_rows(2, 5, 0, 0)[:4] in ([0, 1, 0, 1], [1, 0, 1, 0])


EXIT = """
import sys
import cross_silo.runtime
cross_silo.runtime.prepare()
from cross_silo.data import loader as module
from cross_silo.data.loader import TrainingLoader
from cross_silo.data.transforms import ResizeAndPad
loader = TrainingLoader(sys.argv[1], [ResizeAndPad(16, 16)], 2, 2, 0)
print(next(loader.epoch(0)).image.shape[0])
"""


def test_a_process_ends_while_batches_are_prepared(tmp_path, make_silo):
    write_shards(*make_silo(40), str(tmp_path / "mindrecord_0"))
    command = [sys.executable, "-c", EXIT, str(tmp_path / "mindrecord_0")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "2", "")
