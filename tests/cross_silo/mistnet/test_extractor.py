"""The layers before the cut as a function, with real MindSpore; thresholds that are calibrated with it."""

import os

import numpy as np
import pytest
from PIL import Image

import cross_silo.runtime
from cross_silo.detector import InputSize
from cross_silo.errors import UserError
from cross_silo.evaluation.predict import without_objects
from cross_silo.mistnet.calibrate import channel_medians
from cross_silo.mistnet.extractor import build_extract, check_trained
from tests.support.cut_network import with_statistics
from yolo import Detector
from yolo.settings import Settings

CUT, SIZE = 2, 32


@pytest.fixture(scope="module")
def detector():
    cross_silo.runtime.start(seed=1)
    return Detector(Settings(depth_multiple=0.1, width_multiple=1 / 32), InputSize(2, SIZE, SIZE, 2, 2, 8))


@pytest.fixture(scope="module")
def tensors(detector):
    network = with_statistics(detector.edge_network(CUT))
    return {tensor.name: tensor.asnumpy().copy() for tensor in network.get_parameters()}


@pytest.fixture(scope="module")
def extract(detector, tensors):
    return build_extract(detector, CUT, tensors, 2, SIZE, SIZE)


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def test_is_the_network_in_inference_mode(extract, detector, tensors):
    """One image's activations do not depend on the others of its batch, nor change the statistics."""
    a, b = images(2), images(2, seed=1)
    first = extract(a)
    assert first.shape == (2, *detector.feature_shape(CUT)) and first.dtype == np.float32 and first.std() > 0
    np.testing.assert_array_equal(extract(np.stack([a[0], b[0]]))[0], first[0])
    np.testing.assert_array_equal(extract(a), first)


def test_tensors_of_another_network_are_refused(detector, tensors):
    few = dict(list(tensors.items())[1:])
    with pytest.raises(UserError, match="tensor model.0.conv.weight: found nothing, expected shape"):
        build_extract(detector, CUT, few, 2, SIZE, SIZE)
    with pytest.raises(UserError, match="tensor 'model.2.x', which is not before cut 2"):
        build_extract(detector, CUT, {**tensors, "model.2.x": np.zeros(1)}, 2, SIZE, SIZE)


def test_one_that_was_never_trained_is_refused(detector, tensors):
    born = {tensor.name: tensor.asnumpy() for tensor in detector.edge_network(CUT).get_parameters()}
    with pytest.raises(UserError, match="model.ckpt: the layers before the cut are newly initialised"):
        check_trained(born, "model.ckpt")
    check_trained(tensors, "model.ckpt")
    check_trained({"conv1.weight": born["model.0.conv.weight"]}, "model.ckpt")  # without batch norm nobody can tell


def test_calibrated_bits_are_half_ones(extract, detector, tmp_path):
    for number, pixels in enumerate(images(5, seed=2)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    transforms = detector.eval_transforms()
    medians = channel_medians(tmp_path, extract, transforms, 2, SIZE, SIZE)
    samples = np.stack([without_objects(pixels, transforms).image for pixels in images(5, seed=2)])
    activations = np.concatenate([extract(samples[start : start + 2]) for start in (0, 2, 3)])[[0, 1, 2, 3, 5]]
    flat = activations.transpose(1, 0, 2, 3).reshape(len(medians), -1)  # of 8 x 8 positions all are read
    np.testing.assert_array_equal(medians, np.median(flat, 1).astype(np.float32))
    assert medians.std() > 0


def test_a_directory_without_images_is_refused(extract, detector, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="has no JPEG or PNG image"):
        channel_medians(tmp_path, extract, detector.eval_transforms(), 2, SIZE, SIZE)


def test_thresholds_come_from_a_child_process(tensors, tmp_path, monkeypatch):
    from cross_silo.mistnet.thresholds import calibrated_thresholds

    config = tmp_path / "model.yaml"
    lines = ["detector: yolo", "depth_multiple: 0.1", "width_multiple: 0.03125", "num_classes: 2"]
    config.write_text("\n".join([*lines, f"img_height: {SIZE}", f"img_width: {SIZE}"]))
    public = tmp_path / "public"
    public.mkdir()
    for number, pixels in enumerate(images(3, seed=3)):
        Image.fromarray(pixels).save(public / f"{number}.png")
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    thresholds = calibrated_thresholds(str(config), CUT, tensors, str(public))
    assert thresholds.shape == (8,) and thresholds.dtype == np.float32
    with pytest.raises(UserError, match="mistnet.calibration_images is nowhere: no such directory"):
        calibrated_thresholds(str(config), CUT, tensors, "nowhere")
