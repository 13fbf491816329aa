"""Reads records of MindRecord shards in a given order, through MindSpore's MindDataset."""

from __future__ import annotations

import os
from collections import Counter
from typing import Dict, Iterator, Mapping, Sequence

import numpy as np

from cross_silo.data.manifest import Manifest

Record = Mapping[str, np.ndarray]
COLUMNS = ("image", "annotation", "image_id", "file")


def read_records(
    directory: str, manifest: Manifest, rows: Sequence[int], columns: Sequence[str] = COLUMNS
) -> Iterator[Record]:
    """Give the records of a silo's images with these row numbers, 0 to ``manifest.num_images`` - 1, in this order.

    See :func:`read_files`.
    """
    return read_files([os.path.join(directory, shard.file) for shard in manifest.shards], rows, columns)


def read_files(paths: Sequence[str], rows: Sequence[int], columns: Sequence[str]) -> Iterator[Record]:
    """Give the records with these row numbers, counted through all files, in this order.

    A row may stand there more than once. Columns that are not asked for stay unread.
    """
    import mindspore.dataset as ds

    # MindDataset reads a row once at most, so that a row that is wanted again is kept until then.
    left = Counter(rows)
    kept: Dict[int, Record] = {}
    dataset = ds.MindDataset(
        list(paths),
        columns_list=list(columns),
        sampler=ds.SubsetSampler(list(left)),
        num_parallel_workers=1,
    )
    stored = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    for row in rows:
        record = kept.pop(row) if row in kept else next(stored)
        left[row] -= 1
        if left[row]:
            kept[row] = record
        yield record


def annotation_rows(record: Record, column: str = "annotation") -> np.ndarray:
    """Return the record's boxes, float32 (n, 6).

    A MindRecord blob without elements comes back as one zero of no dimension.
    """
    rows = record[column]
    return rows if rows.ndim == 2 else np.zeros((0, 6), np.float32)
