"""Training batches from the pooled features of all silos: shuffled, debiased, moved, read ahead by a thread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.batch import Batch, make_batch
from cross_silo.data.loader import epoch_rows
from cross_silo.data.prefetch import Prefetcher
from cross_silo.data.transforms import Sample
from cross_silo.errors import UserError
from cross_silo.mistnet.bits import debias, unpack
from cross_silo.mistnet.feature_transforms import FeatureAugmentation, FeatureSample
from cross_silo.mistnet.features import FeatureRecord, FeatureShards
from cross_silo.mistnet.spec import FeatureSpec, check_same

BATCHES_AHEAD = 3
READ_AT_ONCE = 64
"""Images: opening the shards takes about as long as reading some dozens of them."""
CACHE_MB = 256

Position = Tuple[int, int]
"""Epoch and step, both from 0."""


class Pool:
    """The features of several silos, numbered through in the order of the silos' names."""

    def __init__(self, root: Path, silos: Mapping[str, str], cache_mb: int = CACHE_MB) -> None:
        """Open them.

        Args:
            silos: from a silo to its directory's name in ``root``.
            cache_mb: most MiB of packed bits to keep in memory; changes the speed alone.

        Raises:
            UserError: there are none, one is not whole, or two do not belong together.
        """
        if not silos:
            raise UserError(f"{root}: no silo has delivered features; expected at least one")
        self._shards = [FeatureShards(root / silos[silo]) for silo in sorted(silos)]
        for shards in self._shards[1:]:
            check_same(shards.spec, self.spec, str(shards.directory), str(self._shards[0].directory))
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self._room = cache_mb << 20
        # Never given up again: with every image wanted as often as any other, nothing better could take its place.
        self._kept: Dict[int, FeatureRecord] = {}

    @property
    def spec(self) -> FeatureSpec:
        """How the features were made."""
        return self._shards[0].spec

    def __len__(self) -> int:
        return int(self._starts[-1])

    def records(self, rows: Sequence[int]) -> Iterator[FeatureRecord]:
        """Give the images ``rows``, in this order; those that are not kept are all in memory meanwhile."""
        read: Dict[int, FeatureRecord] = {}
        missing = sorted({row for row in rows if row not in self._kept})
        for shards, start, end in zip(self._shards, self._starts, self._starts[1:]):
            own = [row for row in missing if start <= row < end]
            if own:
                read.update(zip(own, shards.records([int(row - start) for row in own])))
        for row, record in read.items():
            size = record.bits.nbytes + record.labels.nbytes
            if size <= self._room:
                self._room -= size
                self._kept[row] = record
        for row in rows:
            yield read[row] if row in read else self._kept[row]


def to_features(record: FeatureRecord, spec: FeatureSpec) -> np.ndarray:
    """Return the debiased bits of one image, float32 (C, H, W)."""
    return debias(unpack(record.bits, spec.bits), spec.p, spec.q).reshape(spec.shape)


class FeatureLoader:
    """Reads the pool by epochs, each a new order of all images; every batch is full.

    What :class:`~cross_silo.data.loader.TrainingLoader` is for images: the last batch of an epoch is filled up from
    its start, and a batch is a function of seed, epoch and step alone. ``Batch.image`` is float32 (N, C, H, W).
    """

    def __init__(
        self, pool: Pool, batch_size: int, max_boxes: int, seed: int, augment: Optional[FeatureAugmentation] = None
    ) -> None:
        """Prepare; ``augment`` moves each image's features."""
        self.num_images = len(pool)
        self.steps_per_epoch = -(-len(pool) // batch_size)
        self.wait_seconds = 0.0
        """Seconds that consumers have waited for batches since the start."""
        self.overflow_boxes = 0
        """Boxes beyond ``max_boxes`` of their image that batches handed out so far had no room for."""
        self._source = _Source(pool, batch_size, max_boxes, seed, augment)
        self._prefetcher: Optional[Prefetcher[Tuple[Position, Batch, int]]] = None
        self._next: Optional[Position] = None

    def epoch(self, epoch_index: int, first_step: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch, from ``first_step`` on; the next one is prepared meanwhile."""
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

    def __enter__(self) -> "FeatureLoader":
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


class _Source:
    """All that a batch depends on; the reading thread holds this and not the loader."""

    def __init__(
        self,
        pool: Pool,
        batch_size: int,
        max_boxes: int,
        seed: int,
        augment: Optional[Callable[[FeatureSample, np.random.Generator], FeatureSample]],
    ) -> None:
        self._pool, self._batch_size, self._max_boxes = pool, batch_size, max_boxes
        self._seed, self._augment = seed, augment

    def batches_from(self, epoch: int, step: int) -> Iterator[Tuple[Position, Batch, int]]:
        """Give batches from a position on, without end: the position after each, the batch, its overflow."""
        while True:
            rows = epoch_rows(len(self._pool), self._batch_size, self._seed, epoch)
            samples: List[Tuple[int, Sample]] = []
            for sample in self._samples(rows[step * self._batch_size :], epoch):
                samples.append(sample)
                if len(samples) == self._batch_size:
                    step += 1
                    last = step * self._batch_size == len(rows)
                    yield ((epoch + 1, 0) if last else (epoch, step), *make_batch(samples, self._max_boxes))
                    samples = []
            epoch, step = epoch + 1, 0

    def _samples(self, rows: Sequence[int], epoch: int) -> Iterator[Tuple[int, Sample]]:
        for start in range(0, len(rows), READ_AT_ONCE):
            wanted = rows[start : start + READ_AT_ONCE]
            for row, record in zip(wanted, self._pool.records(wanted)):
                sample = FeatureSample(to_features(record, self._pool.spec), record.labels)
                if self._augment is not None:
                    sample = self._augment(sample, np.random.default_rng([self._seed, epoch, row]))
                labels = sample.labels
                yield row, Sample(sample.features, labels[:, :4], labels[:, 4].astype(np.int32), labels[:, 5] != 0)
