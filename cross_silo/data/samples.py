"""A silo's images by row number, decoded and scaled; as many as there is room for are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterator, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.image_file import BadImageError, decode_image, decode_resized
from cross_silo.data.manifest import Manifest
from cross_silo.data.mindrecord_reader import Record, annotation_rows, read_records
from cross_silo.data.transforms import Resizing, Sample
from cross_silo.data.transforms.resize import scale_boxes
from cross_silo.errors import UserError


class SampleReader:
    """Reads samples in a given order. What is kept changes how fast they come, never what they are."""

    def __init__(self, directory: str, manifest: Manifest, resizing: Optional[Resizing], cache_bytes: int) -> None:
        """Open a silo.

        Args:
            resizing: what scales each image first; None: images come in their own size.
            cache_bytes: most bytes of decoded pixels to keep.
        """
        self._directory = directory
        self._manifest = manifest
        self._resizing = resizing
        self._room = cache_bytes
        # Never given up again: with every image wanted as often as any other, nothing better could take its place.
        self._kept: Dict[int, Tuple[int, Sample]] = {}

    def read(self, rows: Sequence[int]) -> Iterator[Tuple[int, Sample]]:
        """Give image id and sample of each of these rows, 0 to ``num_images`` - 1; a row may stand there again.

        Encoded images of rows that come again are held meanwhile: ``rows`` should be hundreds, not all of a large silo.
        """
        missing = [row for row in rows if row not in self._kept]
        records = read_records(self._directory, self._manifest, missing)
        unread = set(missing)
        for row in rows:
            record = next(records) if row in unread else None
            if record is None or row in self._kept:
                image_id, sample = self._kept[row]
            else:
                image_id, sample = to_sample(record, self._resizing)
                if sample.image.nbytes <= self._room:
                    self._room -= sample.image.nbytes
                    self._kept[row] = image_id, sample
            # Transforms replace the image, but may write into the rest.
            yield (
                image_id,
                replace(sample, boxes=sample.boxes.copy(), labels=sample.labels.copy(), crowd=sample.crowd.copy()),
            )


def to_sample(record: Record, resizing: Optional[Resizing] = None) -> Tuple[int, Sample]:
    """Decode one record; return the image's id and its sample, scaled as ``resizing`` would do it.

    Raises:
        UserError: the pixels cannot be decoded.
    """
    image_id = int(record["image_id"])
    rows = annotation_rows(record)
    data = record["image"].tobytes()
    try:
        if resizing is None:
            image, scale = decode_image(data), (1.0, 1.0)
        else:
            image, scale = decode_resized(data, resizing.resized)
    except BadImageError as error:
        raise UserError(
            f"{record['file']}: image {image_id}: {error}; expected an intact image: "
            "convert the silo again with generate_mindrecord.py --verify"
        ) from None
    image.flags.writeable = False  # it may be kept
    sample = Sample(
        image=image,
        boxes=rows[:, :4].copy(),
        labels=rows[:, 4].astype(np.int32),
        crowd=rows[:, 5] != 0,
    )
    scale_boxes(sample, *scale)
    return image_id, sample
