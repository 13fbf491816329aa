"""Divides the images of a COCO file among silos: disjoint, seeded, every image once, no silo empty."""

from __future__ import annotations

import os
from typing import Dict, List, Sequence

import numpy as np

from cross_silo.data.coco import CocoDataset
from cross_silo.errors import UserError

NO_LABEL = -1
"""Label of an image without boxes."""
DOMINANCE = 0.8  # a label of more of the images than this leaves little to divide by

Silos = List[np.ndarray]
"""By silo: the places of its images in the file, rising."""


def image_labels(dataset: CocoDataset, label_by: str) -> np.ndarray:
    """Return one class index for each image, int64; ``NO_LABEL`` where it has no box of a known class.

    ``label_by`` "rarest": the image's class with the fewest boxes in the whole file. "dominant": its class
    with the most boxes in the image, of several the one that is rarer in the file.
    """
    grouped = dataset.annotations_by_image()
    counts = np.zeros((len(dataset.images), len(dataset.categories)), np.int64)
    for place, image in enumerate(dataset.images):
        for annotation in grouped[image["id"]]:
            label = dataset.class_index.get(annotation["category_id"])
            if label is not None:
                counts[place, label] += 1
    rarest_first = np.argsort(counts.sum(0), kind="stable")
    ordered = counts[:, rarest_first]
    chosen = (ordered > 0 if label_by == "rarest" else ordered).argmax(1)  # of equals the first: the rarest
    return np.where(counts.any(1), rarest_first[chosen], NO_LABEL)


def dominant_share(labels: np.ndarray) -> float:
    """Return the share of images, 0 to 1, that have the most frequent label."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def split_iid(num_images: int, num_silos: int, seed: int) -> Silos:
    """Equal parts, by one at most, of a random order."""
    order = np.random.default_rng(seed).permutation(num_images)
    return [np.sort(part) for part in np.array_split(order, num_silos)]


def split_quantity(num_images: int, num_silos: int, alpha: float, min_images: int, seed: int) -> Silos:
    """Parts of a random order whose sizes follow a Dirichlet distribution: the smaller alpha, the less even."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(num_silos, alpha))
    return _at_least(_cut(rng.permutation(num_images), shares), min_images, rng)


def split_dirichlet(labels: np.ndarray, num_silos: int, alpha: float, min_images: int, seed: int) -> Silos:
    """Each label's images are spread by shares of their own from a Dirichlet distribution (Li 2021, 2102.02079).

    A small alpha gives a label to few silos; a large one comes near to iid.
    """
    rng = np.random.default_rng(seed)
    silos: Silos = [np.zeros(0, np.int64)] * num_silos
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        parts = _cut(places, rng.dirichlet(np.full(num_silos, alpha)))
        silos = [np.concatenate(pair) for pair in zip(silos, parts)]
    return _at_least(silos, min_images, rng)


def split_by_lists(dataset: CocoDataset, lists: Sequence[str]) -> Silos:
    """One silo for each text file of image file names, a name a line.

    Raises:
        UserError: a list cannot be read or is empty; a name is unknown, listed twice, or in no list.
    """
    places: Dict[str, int] = {}
    for place, image in enumerate(dataset.images):
        if places.setdefault(image["file_name"], place) != place:
            raise UserError(f"{dataset.path}: file name {image['file_name']!r} stands there twice; expected once")
    owner: Dict[str, str] = {}
    silos: Silos = []
    for path in lists:
        names = _read_lines(path)
        for name in names:
            if name not in places:
                raise UserError(f"{path}: {name!r} is no image's file_name in {dataset.path}")
            if name in owner:
                raise UserError(f"{path}: {name!r} is listed twice, first in {owner[name]}; expected once")
            owner[name] = path
        silos.append(np.sort(np.array([places[name] for name in names], np.int64)))
    missing = [name for name in places if name not in owner]
    if missing:
        raise UserError(f"--file_lists: {len(missing)} images are in no list, {missing[0]!r} is the first")
    return silos


def _read_lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a text file of image file names") from None
    if not lines:
        raise UserError(f"{os.fspath(path)}: lists no image; every silo needs one")
    return lines


def _cut(places: np.ndarray, shares: np.ndarray) -> Silos:
    """Cut ``places`` in pieces whose sizes are nearest to ``shares``, which add up to 1."""
    ends = np.rint(np.cumsum(shares)[:-1] * len(places)).astype(np.int64)
    return np.split(places, ends)


def _at_least(silos: Silos, min_images: int, rng: np.random.Generator) -> Silos:
    """Bring every silo to ``min_images`` images, taken at random from whichever silo is the largest."""
    parts = [rng.permutation(silo).tolist() for silo in silos]
    for part in parts:
        while len(part) < min_images:
            part.append(max(parts, key=len).pop())
    return [np.sort(np.array(part, np.int64)) for part in parts]
