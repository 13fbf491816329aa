"""Training batches from the pooled features of all silos: shuffled, debiased, moved, read ahead by a thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.epochs import EpochLoader, Source
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


class FeatureLoader(EpochLoader):
    """Reads the pool by epochs. ``Batch.image`` is float32 (N, C, H, W)."""

    def __init__(
        self, pool: Pool, batch_size: int, max_boxes: int, seed: int, augment: Optional[FeatureAugmentation] = None
    ) -> None:
        """Prepare; ``augment`` moves each image's features."""
        super().__init__(_Source(pool, batch_size, max_boxes, seed, augment), BATCHES_AHEAD)


@dataclass(frozen=True)
class _Source(Source):
    """The pool's features, debiased and moved."""

    pool: Pool
    batch_size: int
    max_boxes: int
    seed: int
    augment: Optional[FeatureAugmentation]

    @property
    def num_images(self) -> int:
        """Images of all silos."""
        return len(self.pool)

    def samples(self, rows: Sequence[int], epoch: int) -> Iterator[Tuple[int, Sample]]:
        """Give the images ``rows`` as an epoch shows them."""
        for start in range(0, len(rows), READ_AT_ONCE):
            wanted = rows[start : start + READ_AT_ONCE]
            for row, record in zip(wanted, self.pool.records(wanted)):
                sample = FeatureSample(to_features(record, self.pool.spec), record.labels)
                if self.augment is not None:
                    sample = self.augment(sample, np.random.default_rng([self.seed, epoch, row]))
                labels = sample.labels
                yield row, Sample(sample.features, labels[:, :4], labels[:, 4].astype(np.int32), labels[:, 5] != 0)
