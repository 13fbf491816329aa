"""Batches by epochs, prepared ahead by one thread: what loaders of images and of features have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Iterator, List, Optional, Sequence, Tuple, TypeVar

import numpy as np

from cross_silo.data.batch import Batch, make_batch
from cross_silo.data.prefetch import Prefetcher
from cross_silo.data.transforms import Sample

Position = Tuple[int, int]
"""Epoch and step, both from 0."""

Loader = TypeVar("Loader", bound="EpochLoader")


def epoch_rows(num_images: int, batch_size: int, seed: int, epoch: int) -> List[int]:
    """Return an epoch's row numbers: a permutation, filled up from its own start to whole batches."""
    order = np.random.default_rng([seed, epoch]).permutation(num_images)
    steps = -(-num_images // batch_size)
    return np.resize(order, steps * batch_size).tolist()


class Source(ABC):
    """All that a batch depends on; the reading thread holds this and not the loader."""

    num_images: int
    batch_size: int
    max_boxes: int
    seed: int

    @abstractmethod
    def samples(self, rows: Sequence[int], epoch: int) -> Iterator[Tuple[int, Sample]]:
        """Give the images ``rows`` as an epoch shows them, each with its id."""

    def batches_from(self, epoch: int, step: int) -> Iterator[Tuple[Position, Batch, int]]:
        """Give batches from a position on, without end: the position after each, the batch, its overflow."""
        while True:
            rows = epoch_rows(self.num_images, self.batch_size, self.seed, epoch)
            samples: List[Tuple[int, Sample]] = []
            for sample in self.samples(rows[step * self.batch_size :], epoch):
                samples.append(sample)
                if len(samples) == self.batch_size:
                    step += 1
                    last = step * self.batch_size == len(rows)
                    yield ((epoch + 1, 0) if last else (epoch, step), *make_batch(samples, self.max_boxes))
                    samples = []
            epoch, step = epoch + 1, 0


class EpochLoader:
    """Gives a source's batches by epochs, each a new order of all images; every batch is full.

    The last batch of an epoch is filled up from the epoch's start, so that each image is seen at least once
    and a silo smaller than a batch still gives one. A batch is a function of seed, epoch and step alone.
    """

    def __init__(self, source: Source, batches_ahead: int) -> None:
        """Prepare; ``batches_ahead`` are most batches that wait to be taken."""
        self._source = source
        self._batches_ahead = batches_ahead
        self._prefetcher: Optional[Prefetcher[Tuple[Position, Batch, int]]] = None
        self._next: Optional[Position] = None
        self.wait_seconds = 0.0
        """Seconds that consumers have waited for batches since the start."""
        self.overflow_boxes = 0
        """Boxes beyond ``max_boxes`` of their image that batches handed out so far had no room for."""

    @property
    def num_images(self) -> int:
        """Images in the shards."""
        return self._source.num_images

    @property
    def steps_per_epoch(self) -> int:
        """Batches that show every image at least once."""
        return -(-self.num_images // self._source.batch_size)

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

    def __enter__(self: Loader) -> Loader:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _take(self, position: Position) -> Tuple[Batch, int]:
        if self._prefetcher is None or self._next != position:
            self.close()
            self._prefetcher = Prefetcher(self._source.batches_from(*position), self._batches_ahead)
        self._next = None  # after an error the next call starts anew
        self._next, batch, overflow = self._prefetcher.take()
        return batch, overflow
