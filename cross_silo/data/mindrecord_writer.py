"""Writes a COCO file and its images as MindRecord shards, many records a call, a directory that appears whole."""

from __future__ import annotations

import functools
import os
from dataclasses import asdict
from typing import Any, Callable, Dict, Iterator, List, Tuple

from cross_silo.data.coco import CocoDataset
from cross_silo.data.manifest import Manifest, Shard, write_manifest
from cross_silo.data.parts import available_processes, run_parts
from cross_silo.data.record import IMAGE_REASONS, LARGEST_FILE, SCHEMA, Tally, make_record
from cross_silo.data.record_file import RecordFile
from cross_silo.data.staging import staged_directory
from cross_silo.errors import UserError

BATCH_ROWS = 256  # a call's fixed cost is several times a record's
BATCH_BYTES = 64 << 20  # what waits in memory for a call
SMALLEST_PAGE, LARGEST_PAGE = 1 << 20, 256 << 20  # bytes; a record lies within one page
MOST_SHARDS = 1000  # MindRecord's limit
WORTH_FORKING = 1000  # images


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
    annotations = dataset.annotations_by_image()
    page_size = _page_size(dataset, image_dir)
    with staged_directory(directory, overwrite) as partial:
        parts = [
            functools.partial(
                _write_shard,
                os.path.join(partial, name),
                images,
                annotations,
                dataset.class_index,
                image_dir,
                page_size,
                verify,
                keep_empty,
            )
            for name, images in _shares(dataset.images, shards)
        ]
        # Forking and gathering cost more than they save where there is little to do.
        processes = available_processes() if verify or len(dataset.images) >= WORTH_FORKING else 1
        tally = Tally(len(dataset.categories))
        for annotation in dataset.annotations:
            if annotation["image_id"] not in annotations:
                tally.skip_box("unknown_image", annotation["id"])
        for result in run_parts(parts, processes, progress):
            tally.add(Tally(**result))
        if not tally.images:
            found = ", ".join(f"{len(files)} {IMAGE_REASONS[why]}" for why, files in tally.skipped_images.items())
            raise UserError(
                f"{dataset.path}: none of its {len(dataset.images)} images in {image_dir} can be used"
                f" ({found or 'it lists none'})"
            )
        names = sorted(name for name in os.listdir(partial) if not name.endswith(".db"))
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


def _shares(images: List[Dict[str, Any]], shards: int) -> Iterator[Tuple[str, List[Dict[str, Any]]]]:
    """Give each shard's file name and its run of the images: records stand in the order of the file's images."""
    shards = max(1, min(shards, len(images)))
    digits = len(str(shards - 1))
    for index in range(shards):
        first, end = (len(images) * edge // shards for edge in (index, index + 1))
        yield f"silo.{index:0{digits}d}.mindrecord", images[first:end]


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


def _write_shard(
    path: str,
    images: List[Dict[str, Any]],
    annotations: Dict[int, List[Dict[str, Any]]],
    class_index: Dict[int, int],
    image_dir: str,
    page_size: int,
    verify: bool,
    keep_empty: bool,
    report: Callable[[int], None],
) -> Dict[str, Any]:
    """Write one shard, or no file where none of ``images`` can be used; return its tally's fields."""
    tally = Tally(len(class_index))
    writer = RecordFile(path, SCHEMA, "COCO detection", "image_id", page_size)
    rows: List[Dict[str, Any]] = []
    waiting = reported = 0
    for place, image in enumerate(images):
        row = make_record(image, annotations[image["id"]], class_index, image_dir, tally, keep_empty, verify)
        if row is not None:
            rows.append(row)
            waiting += len(row["image"])
        if len(rows) >= BATCH_ROWS or waiting >= BATCH_BYTES:
            writer.write(rows)
            rows, waiting = [], 0
            report(place + 1 - reported)
            reported = place + 1
    if rows:
        writer.write(rows)
    if tally.images:
        writer.commit()
    report(len(images) - reported)
    return asdict(tally)
