"""The training pipeline: every image each epoch, full batches, and the same batches after a restart."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from cross_silo.data.loader import TrainingLoader, epoch_rows
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.transforms import ColorJitter, HorizontalFlip, ResizeAndPad
from cross_silo.errors import UserError

FIELDS = ("image", "boxes", "labels", "valid", "image_ids")
TRANSFORMS = (HorizontalFlip(0.5), ResizeAndPad(16, 16), ColorJitter(0.3, 0.3, 0.3, 0.1))


@pytest.fixture
def open_loader(tmp_path, make_silo):
    """Return a function that opens a loader over a silo of ``num_images``."""
    opened = []
    before = set(threading.enumerate())

    def make(num_images=10, batch_size=4, max_boxes=4, seed=0, transforms=TRANSFORMS, **silo):
        directory = tmp_path / f"mindrecord_{num_images}"
        if not directory.exists():
            write_shards(*make_silo(num_images, **silo), str(directory), shards=2, keep_empty=True)
        opened.append(TrainingLoader(str(directory), transforms, batch_size, max_boxes, seed))
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


def test_a_restarted_worker_gets_the_batches_it_would_have_got(open_loader):
    loader = open_loader(11)
    epochs = [list(loader.epoch(epoch)) for epoch in range(3)]
    assert_same(list(open_loader(11).epoch(1, 2)), epochs[1][2:])
    again = open_loader(11)
    assert_same(list(again.epoch(2)), epochs[2])
    assert_same(list(again.epoch(0, 1)), epochs[0][1:])
    assert list(again.epoch(0, loader.steps_per_epoch)) == []
    assert not np.array_equal(next(open_loader(11, seed=1).epoch(0)).image, epochs[0][0].image)


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
