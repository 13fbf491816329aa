"""Training batches from a silo's MindRecord shards: shuffled by epoch, augmented, prepared ahead by one thread."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from cross_silo.data.coco import Category
from cross_silo.data.epochs import EpochLoader, Source
from cross_silo.data.manifest import read_manifest
from cross_silo.data.samples import SampleReader
from cross_silo.data.transforms import AnyTransform, MixTransform, Resizing, Sample, apply
from cross_silo.errors import UserError

BATCHES_AHEAD = 6  # on a busy machine the thread may not run for a step or two
READ_AT_ONCE = 256  # images: opening the shards takes about as long as reading 30 to 100 of them
CACHE_MB = 256


class TrainingLoader(EpochLoader):
    """Reads a silo's shards by epochs."""

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
        source = _Source(reader, self._manifest.num_images, list(transforms), batch_size, max_boxes, seed)
        super().__init__(source, BATCHES_AHEAD)

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
class _Source(Source):
    """A silo's images, augmented."""

    reader: SampleReader
    num_images: int
    transforms: Sequence[AnyTransform]
    batch_size: int
    max_boxes: int
    seed: int

    def samples(self, rows: Sequence[int], epoch: int) -> Iterator[Tuple[int, Sample]]:
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
