"""Writes a COCO file and its images as MindRecord shards, 64 records a call, into a directory that appears whole."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List

from cross_silo.data.coco import CocoDataset
from cross_silo.data.manifest import Manifest, Shard, write_manifest
from cross_silo.data.record import IMAGE_REASONS, LARGEST_FILE, SCHEMA, Tally, make_record
from cross_silo.data.staging import staged_directory, sync_path
from cross_silo.errors import UserError

BATCH_ROWS = 64  # a call's fixed cost is over ten times a record's
BATCH_BYTES = 64 << 20  # what waits in memory for a call
SMALLEST_PAGE, LARGEST_PAGE = 1 << 20, 256 << 20  # bytes; a record lies within one page
MOST_SHARDS = 1000  # MindRecord's limit
SHARD_PREFIX = "silo.mindrecord"


def write_shards(
    dataset: CocoDataset,
    image_dir: str,
    directory: str,
    shards: int = 1,
    overwrite: bool = False,
    verify: bool = False,
    keep_empty: bool = False,
    progress: Callable[[int], None] = lambda images: None,
) -> Manifest:
    """Convert a COCO file to MindRecord shards with a manifest in ``directory``.

    Images and boxes that cannot be used are left out and listed in the manifest.

    Args:
        image_dir: where the images' file names start.
        directory: appears only when it is complete.
        shards: files to spread the records over; no more than there are images.
        overwrite: replace what stands in ``directory``.
        verify: decode every image.
        keep_empty: keep images without boxes.
        progress: called with the number of images looked at so far.

    Raises:
        UserError: ``directory`` is taken, ``image_dir`` does not exist, or no image could be used.
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise UserError(f"--shards: found {shards}; expected 1 to {MOST_SHARDS}")
    if not os.path.isdir(image_dir):
        raise UserError(f"--image_dir: {image_dir}: no such directory")
    shards = max(1, min(shards, len(dataset.images)))
    with staged_directory(directory, overwrite) as partial:
        names = shard_names(shards)
        writer = _open_writer(partial, shards, _page_size(dataset, image_dir))
        tally = _write_records(writer, dataset, image_dir, verify, keep_empty, progress)
        if not tally.images:
            found = ", ".join(f"{len(files)} {IMAGE_REASONS[why]}" for why, files in tally.skipped_images.items())
            raise UserError(
                f"{dataset.path}: none of its {len(dataset.images)} images in {image_dir} can be used"
                f" ({found or 'it lists none'})"
            )
        writer.commit()
        for name in names:
            sync_path(os.path.join(partial, name))
            sync_path(os.path.join(partial, f"{name}.db"))
        manifest = Manifest(
            categories=dataset.categories,
            num_images=tally.images,
            num_boxes=sum(tally.boxes_by_class),
            num_crowd=tally.crowd,
            boxes_by_class=tuple(tally.boxes_by_class),
            most_boxes=tally.most_boxes,
            clipped_boxes=tally.clipped_boxes,
            skipped_images=tally.skipped_images,
            skipped_boxes=tally.skipped_boxes,
            keep_empty=keep_empty,
            source=os.path.basename(dataset.path),
            source_sha256=dataset.sha256,
            shards=tuple(Shard(name, os.path.getsize(os.path.join(partial, name))) for name in names),
        )
        write_manifest(partial, manifest)
    return manifest


def shard_names(shards: int) -> List[str]:
    """File names that MindRecord's writer gives to ``shards`` files."""
    if shards == 1:
        return [SHARD_PREFIX]
    digits = len(str(shards - 1))
    return [f"{SHARD_PREFIX}{index:0{digits}d}" for index in range(shards)]


def _open_writer(directory: str, shards: int, page_size: int) -> Any:
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(os.path.join(directory, SHARD_PREFIX), shards)
    writer.add_schema(SCHEMA, "COCO detection")
    writer.add_index(["image_id"])
    writer.set_page_size(page_size)
    return writer


def _page_size(dataset: CocoDataset, image_dir: str) -> int:
    """Return the power of two that holds the largest record: files are sparse in whole pages."""
    largest = 0
    for image in dataset.images:
        try:
            size = os.stat(os.path.join(image_dir, image["file_name"])).st_size
        except OSError:
            continue
        if size <= LARGEST_FILE:
            largest = max(largest, size)
    page = SMALLEST_PAGE
    while page < 2 * largest and page < LARGEST_PAGE:
        page *= 2
    return page


def _write_records(
    writer: Any,
    dataset: CocoDataset,
    image_dir: str,
    verify: bool,
    keep_empty: bool,
    progress: Callable[[int], None],
) -> Tally:
    annotations = dataset.annotations_by_image()
    tally = Tally(len(dataset.categories))
    for annotation in dataset.annotations:
        if annotation["image_id"] not in annotations:
            tally.skip_box("unknown_image", annotation["id"])
    rows: List[Dict[str, Any]] = []
    waiting = 0
    for place, image in enumerate(dataset.images):
        row = make_record(image, annotations[image["id"]], dataset.class_index, image_dir, tally, keep_empty, verify)
        if row is not None:
            rows.append(row)
            waiting += len(row["image"])
        if len(rows) >= BATCH_ROWS or waiting >= BATCH_BYTES:
            _write(writer, rows)
            rows, waiting = [], 0
            progress(place + 1)
    if rows:
        _write(writer, rows)
    progress(len(dataset.images))
    return tally


def _write(writer: Any, rows: List[Dict[str, Any]]) -> None:
    count = len(rows)
    writer.write_raw_data(rows)
    if len(rows) != count:  # the writer drops what does not fit the schema, with a warning alone
        raise RuntimeError(f"MindRecord refused {count - len(rows)} of {count} records")
