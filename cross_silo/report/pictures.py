"""Pictures of a set's images: truth at the left, detections at the right."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from cross_silo.data.coco import CocoDataset
from cross_silo.data.image_file import decode_image
from cross_silo.evaluation.confusion import pair, split_crowds
from cross_silo.report.drawing import Box, beside, draw

CAPTION = "dashed: left, not found as such; right, wrong class, second box of an object, or nothing there (IoU 0.5)"


def draw_pictures(
    dataset: CocoDataset,
    detections: Sequence[Mapping[str, Any]],
    image_dir: Path,
    directory: Path,
    number: int,
    score: float,
) -> List[Path]:
    """Draw ``number`` images, evenly spread over the set, into ``directory``; return the files.

    Args:
        detections: COCO results.
        score: least score of the detections drawn.
    """
    directory.mkdir(parents=True, exist_ok=True)
    number = min(number, len(dataset.images))
    chosen = [dataset.images[place] for place in np.arange(number) * len(dataset.images) // max(number, 1)]
    found: Dict[int, List[Mapping[str, Any]]] = {image["id"]: [] for image in chosen}
    for detection in detections:
        if detection["score"] >= score and detection["image_id"] in found:
            found[detection["image_id"]].append(detection)
    truth = dataset.annotations_by_image()
    paths = []
    for image in chosen:
        pixels = decode_image((image_dir / image["file_name"]).read_bytes())
        paths.append(directory / f"{image['id']}_{Path(image['file_name']).stem}.png")
        _picture(dataset, pixels, truth[image["id"]], found[image["id"]], score).save(paths[-1])
    return paths


def _picture(
    dataset: CocoDataset,
    pixels: np.ndarray,
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    score: float,
) -> Any:
    index = dataset.class_index
    names = [category.name for category in dataset.categories]
    objects, crowds = split_crowds([entry for entry in annotations if entry["category_id"] in index])
    pairs = pair(objects, crowds, detections)
    left = []
    for entry, partner in zip(objects, pairs.of_object):
        label = index[entry["category_id"]]
        missed = partner is None or detections[partner]["category_id"] != entry["category_id"]
        left.append(Box(tuple(entry["bbox"]), label, names[label], dashed=missed))
    for entry in crowds:
        label = index[entry["category_id"]]
        left.append(Box(tuple(entry["bbox"]), label, f"{names[label]} (crowd)"))
    right = []
    for entry, partner, ignored in zip(detections, pairs.of_detection, pairs.ignored):
        label = index[entry["category_id"]]
        correct = ignored or (partner is not None and objects[partner]["category_id"] == entry["category_id"])
        right.append(Box(tuple(entry["bbox"]), label, f"{names[label]} {entry['score']:.2f}", dashed=not correct))
    titles = (f"truth: {len(annotations)}", f"detections with score {score:g} or more: {len(detections)}")
    return beside(draw(pixels, left), draw(pixels, right), titles, CAPTION)
