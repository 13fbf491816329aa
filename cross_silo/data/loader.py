"""Training batches from a silo's MindRecord shards: shuffled by epoch, augmented, prepared ahead by one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.batch import Batch, make_batch
from cross_silo.data.coco import Category
from cross_silo.data.manifest import read_manifest
from cross_silo.data.prefetch import Prefetcher
from cross_silo.data.samples import SampleReader
from cross_silo.data.transforms import AnyTransform, MixTransform, Resizing, Sample, apply
from cross_silo.errors import UserError

BATCHES_AHEAD = 6  # on a busy machine the thread may not run for a step or two
READ_AT_ONCE = 256  # images: opening the shards takes about as long as reading 30 to 100 of them
CACHE_MB = 256

Position = Tuple[int, int]
"""Epoch and step, both from 0."""


class TrainingLoader:
    """Reads a silo's shards by epochs, each a new order of all images; every batch is full.

    The last batch of an epoch is filled up from the epoch's start, so that each image is seen at least once
    and a silo smaller than a batch still gives one. A batch is a function of seed, epoch and step alone.
    """

    def __init__(
        self,
        directory: str,
        transforms: Sequence[AnyTransform],
        batch_size: int,
        max_boxes: int,
        seed: int,
        cache_mb: int = CACHE_MB,
    ) -> None:
        """Open the shards of ``directory``; the transforms must bring all images to one size.

        Args:
            transforms: where the first is a :class:`MixTransform`, it gets other images of the same shards.
            cache_mb: most MiB of decoded images to keep in memory; changes the speed alone.

        Raises:
            UserError: ``directory`` is no finished conversion.
        """
        if batch_size < 1 or max_boxes < 1 or seed < 0:
            raise UserError(
                f"batch_size, num_gts, seed: found {batch_size}, {max_boxes}, {seed}; expected at least 1, 1 and 0"
            )
        self._manifest = read_manifest(directory)
        import mindspore.dataset  # noqa: F401 - its second belongs here and not to the first batch's wait

        if any(isinstance(transform, MixTransform) for transform in transforms[1:]):
            raise ValueError("a transform that mixes images can only stand first")
        resizing = transforms[0] if transforms and isinstance(transforms[0], Resizing) else None
        reader = SampleReader(directory, self._manifest, resizing, cache_mb << 20)
        self._source = _Source(reader, self._manifest.num_images, list(transforms), batch_size, max_boxes, seed)
        self._batch_size = batch_size
        self._prefetcher: Optional[Prefetcher[Tuple[Position, Batch, int]]] = None
        self._next: Optional[Position] = None
        self.wait_seconds = 0.0
        """Seconds that consumers have waited for batches since the start."""
        self.overflow_boxes = 0
        """Boxes beyond ``max_boxes`` of their image that batches handed out so far had no room for."""

    @property
    def num_images(self) -> int:
        """Images in the shards."""
        return self._manifest.num_images

    @property
    def steps_per_epoch(self) -> int:
        """Batches that show every image at least once."""
        return -(-self.num_images // self._batch_size)

    @property
    def num_classes(self) -> int:
        """Object classes, background not counted."""
        return self._manifest.num_classes

    @property
    def categories(self) -> Tuple[Category, ...]:
        """Object classes in the order of the labels."""
        return self._manifest.categories

    @property
    def most_boxes(self) -> int:
        """Largest number of boxes of an image: where it is above ``max_boxes``, some find no room."""
        return self._manifest.most_boxes

    def epoch(self, epoch_index: int, first_step: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch, from ``first_step`` on.

        The next epoch is prepared while this one is used up: calls in order cost no wait between epochs.
        One epoch can be under way at a time.
        """
        if epoch_index < 0 or not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(
                f"found epoch {epoch_index}, first step {first_step}; "
                f"expected at least 0, and 0 to {self.steps_per_epoch}"
            )
        for step in range(first_step, self.steps_per_epoch):
            started = time.perf_counter()
            batch, overflow = self._take((epoch_index, step))
            self.wait_seconds += time.perf_counter() - started
            self.overflow_boxes += overflow
            yield batch

    def close(self) -> None:
        """End the reading thread. A later call of :meth:`epoch` starts another."""
        if self._prefetcher is not None:
            self._prefetcher.stop()
            self._prefetcher = None

    def __enter__(self) -> "TrainingLoader":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _take(self, position: Position) -> Tuple[Batch, int]:
        if self._prefetcher is None or self._next != position:
            self.close()
            self._prefetcher = Prefetcher(self._source.batches_from(*position), BATCHES_AHEAD)
        self._next = None  # after an error the next call starts anew
        self._next, batch, overflow = self._prefetcher.take()
        return batch, overflow


def epoch_rows(num_images: int, batch_size: int, seed: int, epoch: int) -> List[int]:
    """Return an epoch's row numbers: a permutation, filled up from its own start to whole batches."""
    order = np.random.default_rng([seed, epoch]).permutation(num_images)
    steps = -(-num_images // batch_size)
    return np.resize(order, steps * batch_size).tolist()


def other_rows(num_images: int, count: int, seed: int, epoch: int, row: int) -> List[int]:
    """Return the rows of the images that a row's image is mixed with in an epoch; one may stand there twice."""
    return np.random.default_rng([seed, epoch, row, 1]).integers(num_images, size=count).tolist()


def augment(
    image_id: int,
    sample: Sample,
    others: Sequence[Sample],
    transforms: Sequence[AnyTransform],
    seed: int,
    epoch: int,
) -> Sample:
    """Transform a sample. The random numbers are a function of seed, epoch and image id alone."""
    rng = np.random.default_rng([seed, epoch, image_id & 0xFFFFFFFFFFFFFFFF])
    return apply(transforms, sample, rng, others)


@dataclass(frozen=True)
class _Source:
    """All that a batch depends on; the reading thread holds this and not the loader."""

    reader: SampleReader
    num_images: int
    transforms: Sequence[AnyTransform]
    batch_size: int
    max_boxes: int
    seed: int

    def batches_from(self, epoch: int, step: int) -> Iterator[Tuple[Position, Batch, int]]:
        """Give batches from a position on, without end: the position after each, the batch, its overflow."""
        while True:
            rows = epoch_rows(self.num_images, self.batch_size, self.seed, epoch)
            samples: List[Tuple[int, Sample]] = []
            for sample in self._augmented(rows[step * self.batch_size :], epoch):
                samples.append(sample)
                if len(samples) == self.batch_size:
                    step += 1
                    last = step * self.batch_size == len(rows)
                    yield ((epoch + 1, 0) if last else (epoch, step), *make_batch(samples, self.max_boxes))
                    samples = []
            epoch, step = epoch + 1, 0

    def _augmented(self, rows: Sequence[int], epoch: int) -> Iterator[Tuple[int, Sample]]:
        first = self.transforms[0] if self.transforms else None
        count = first.num_others if isinstance(first, MixTransform) else 0
        at_once = max(1, READ_AT_ONCE // (1 + count))
        for start in range(0, len(rows), at_once):
            wanted: List[int] = []
            for row in rows[start : start + at_once]:
                wanted.append(row)
                if count:
                    wanted += other_rows(self.num_images, count, self.seed, epoch, row)
            samples = self.reader.read(wanted)
            for image_id, sample in samples:
                others = [other for _, other in islice(samples, count)]
                yield image_id, augment(image_id, sample, others, self.transforms, self.seed, epoch)
