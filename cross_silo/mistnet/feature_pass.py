"""The one pass over a silo's images: pixels to activations to bits to noisy bits, labels with them, image by image."""

from __future__ import annotations

import struct
from itertools import islice
from pathlib import Path
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from cross_silo.data.manifest import Manifest
from cross_silo.data.mindrecord_reader import Record, read_records
from cross_silo.data.samples import to_sample
from cross_silo.data.transforms import Sample, Transform, apply
from cross_silo.evaluation.predict import fill_batch
from cross_silo.mistnet.bits import binarise, pack, randomise
from cross_silo.mistnet.features import FeatureManifest, FeatureRecord
from cross_silo.mistnet.labels import WORDS_AN_OBJECT, randomise_labels
from cross_silo.mistnet.privacy import Mechanism
from cross_silo.mistnet.secret import Secret
from cross_silo.mistnet.spec import FeatureSpec
from cross_silo.mistnet.writer import FeatureWriter

Extract = Callable[[np.ndarray], np.ndarray]
"""From uint8 RGB (N, H, W, 3) to the activations at the cut, float32 (N, C, h, w)."""


class Drawing:
    """Makes the record of an image: a function of secret, specification and image alone, whenever it is asked for."""

    def __init__(self, spec: FeatureSpec, thresholds: np.ndarray, secret: Secret) -> None:
        """Prepare; ``thresholds``: float32 (C,)."""
        self._spec = spec
        self._thresholds = thresholds
        self._secret = secret
        self._flip_words = Mechanism(spec.epsilon, spec.convention).flip_words

    def record(self, item: bytes, activations: np.ndarray, rows: np.ndarray) -> FeatureRecord:
        """Return what is sent of an image.

        Args:
            item: the image's id and file. Where another file stands under the id, the noise is another.
            activations: float32 (C, h, w).
            rows: the true labels, float32 (n, 6).
        """
        spec, secret = self._spec, self._secret
        bits = binarise(activations, self._thresholds).reshape(-1)
        if self._flip_words:
            # Were the same words used under another specification, the two results would give the bits away.
            bits = randomise(bits, secret.words(b"bits" + spec.digest, item, spec.bits), self._flip_words)
        words = secret.words(b"labels" + spec.digest, item, WORDS_AN_OBJECT * len(rows))
        rows = randomise_labels(
            rows, words, spec.label_epsilon, spec.box_jitter, len(spec.categories), spec.height, spec.width
        )
        return FeatureRecord(np.frombuffer(pack(bits), np.uint8), rows, secret.name(item))


def make_features(
    target: Path,
    dataset_dir: Path,
    silo: Manifest,
    transforms: Sequence[Transform],
    drawing: Drawing,
    spec: FeatureSpec,
    extract: Extract,
    batch_size: int,
    begin: Callable[[int], None] = lambda done: None,
    advance: Callable[[int], None] = lambda images: None,
) -> FeatureManifest:
    """Fill ``target`` with the features of a silo's images; what an interrupted pass has left there is kept.

    Memory is bounded by a batch of images and activations, and a shard of packed bits.

    Args:
        dataset_dir: the silo's MindRecord shards, of ``silo``.
        transforms: from a decoded image to the network's input, without randomness.
        batch_size: images that ``extract`` takes at once.
        begin: told how many images are done already.
        advance: told of each batch how many images it had; may raise to end the pass.

    Raises:
        UserError: an image cannot be decoded, or ``target`` holds features of another specification.
    """
    writer = FeatureWriter(target, spec)
    begin(writer.done)
    rows = range(writer.done, silo.num_images)
    records = read_records(str(dataset_dir), silo, rows) if rows else iter(())
    size = (spec.height, spec.width)
    for batch in _batches(records, batch_size):
        prepared = [_prepare(record, transforms) for record in batch]
        activations = extract(fill_batch([sample for _, sample in prepared], batch_size, size))
        for (item, sample), values in zip(prepared, activations):
            writer.add(drawing.record(item, values, label_rows(sample)))
        advance(len(batch))
    return writer.finish()


def label_rows(sample: Sample) -> np.ndarray:
    """Return a sample's objects as float32 (n, 6): x1, y1, x2, y2 in pixels of its image, class index, crowd."""
    columns = [sample.boxes.reshape(-1, 4), sample.labels[:, None], sample.crowd[:, None]]
    return np.concatenate(columns, 1).astype(np.float32)


def _prepare(record: Record, transforms: Sequence[Transform]) -> Tuple[bytes, Sample]:
    """Return what names an image, and the image at the network's size."""
    image_id, sample = to_sample(record)
    item = struct.pack("<q", image_id) + record["image"].tobytes()
    return item, apply(transforms, sample, np.random.default_rng(0))


def _batches(records: Iterator[Record], size: int) -> Iterator[List[Record]]:
    while True:
        batch = list(islice(records, size))
        if not batch:
            return
        yield batch
