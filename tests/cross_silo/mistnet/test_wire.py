"""What leaves a silo, byte by byte: packed bits, labels and names; no float of a feature, no pixel, no file's name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.config.model import load_model, make_detector
from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_reader import read_records
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.samples import to_sample
from cross_silo.data.transforms import apply
from cross_silo.mistnet.features import FeatureShards
from tests.support import numpy_edge
from tests.support.coco_silo import write_silo
from tests.support.mistnet_job import WEIGHTS, MistNetJob
from tests.support.recording_proxy import RecordingProxy

IMAGES, SHAPE = 3, (64, 16, 16)
WINDOW = 8
"""Values in a row that must not occur: by chance, of 32 bytes, none does."""


@pytest.fixture
def job(tmp_path, redis_address, free_port):
    made = MistNetJob(tmp_path, redis_address, free_port, epochs=1)
    yield made
    made.close()


def activations(job, data):
    """What the edge computes for each image, and the images' own bytes."""
    detector = make_detector(load_model(job.model_yaml), 1)
    tensors = {"backbone.conv1.weight": WEIGHTS["backbone.conv1.weight"]}
    extract = numpy_edge.build(SimpleNamespace(shape=SHAPE), tensors, None)
    found, files = [], []
    for record in read_records(str(data), read_manifest(data), range(IMAGES)):
        sample = apply(detector.eval_transforms(), to_sample(record)[1], np.random.default_rng(0))
        found.append(extract(sample.image[None])[0])
        files.append(record["image"].tobytes())
    return np.stack(found), files


def occurs(values, sent):
    """Whether a run of ``values`` stands anywhere in what was sent, as any common kind of float."""
    flat = values.reshape(-1)
    places = range(0, len(flat) - WINDOW, 997)
    return any(
        flat[place : place + WINDOW].astype(kind).tobytes() in sent
        for kind in ("<f4", ">f4", "<f2", "<f8")
        for place in places
        if len(np.unique(flat[place : place + WINDOW])) > 1
    )


def test_no_float_of_a_feature_leaves_a_silo(job, tmp_path):
    (tmp_path / "silo").mkdir()
    dataset, image_dir = write_silo(tmp_path / "silo", IMAGES, seed=1, categories=((1, "cell"),))
    data = tmp_path / "silo" / "mindrecord_0"
    write_shards(dataset, image_dir, str(data))
    job.server()
    proxy = RecordingProxy(int(job.address.rpartition(":")[2]))
    arguments = ["--yaml_config", str(job.yaml), "--config", str(job.model_yaml), "--worker_index", "0"]
    arguments += ["--silo", "silo_0", "--dataset_dir", str(data), "--run_dir", str(job.run_dir)]
    arguments += ["--http_server_address", f"127.0.0.1:{proxy.port}"]
    job.start("tests.support.numpy_edge", "worker_0.log", *arguments)
    stored = job.checkpoints / "features" / "silo_0"
    job.wait((stored / "manifest.json").exists, "the features")
    proxy.close()
    sent = proxy.sent()
    values, files = activations(job, data)
    shards = FeatureShards(stored)
    bits = [np.packbits(image > 0).tobytes() for image in values]
    assert [record.bits.tobytes() for record in shards.records(range(IMAGES))] == bits  # epsilon is null
    assert all(image in sent for image in bits)  # so the search would have found floats, had there been any
    assert not occurs(values, sent)
    for file in files:
        assert not any(file[place : place + 64] in sent for place in range(0, len(file) - 64, 61))
    for image in dataset.images:
        assert image["file_name"].encode() not in sent
    secret = (job.run_dir / "worker_0" / "secret.key").read_bytes()
    assert secret not in sent and secret.hex().encode() not in sent
