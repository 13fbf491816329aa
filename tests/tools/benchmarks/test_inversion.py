"""The inversion benchmark on a tiny extractor: what is reconstructed grows with what is sent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from cross_silo.config.model import load_model, make_detector

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "tools" / "benchmarks" / "inversion.py"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=900)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model YAML of 32 x 32 pixels and a checkpoint of its network."""
    directory = tmp_path_factory.mktemp("model")
    config = directory / "model.yaml"
    config.write_text(f"base: {ROOT / 'configs' / 'yolov5_tiny.yaml'}\nimg_height: 32\nimg_width: 32\nnum_classes: 3\n")
    edge = make_detector(load_model(config)).edge_network(1)
    tensors = {tensor.name: tensor.asnumpy() for tensor in edge.get_parameters()}
    write_checkpoint(directory / "model.ckpt", tensors, CheckpointInfo())
    return ("--config", config, "--checkpoint", directory / "model.ckpt", "--cut_layer", "1")


def test_noise_hides_images(given, tmp_path):
    counts = ("--num_public", "48", "--num_images", "16", "--steps", "60")
    picture = tmp_path / "inversion.png"
    result = run(*given, "--epsilon", "raw", "0.1", *counts, "--picture", picture, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    raw, noisy = report["results"]
    assert (report["detector"], report["cut_layer"], report["bits"]) == ("yolov5", 1, 8 * 16 * 16)
    assert raw["p"] is None and noisy["p"] == pytest.approx(0.5125, abs=1e-4)
    assert raw["ssim"] > noisy["ssim"] + 0.1 and raw["psnr"] > noisy["psnr"]
    assert np.asarray(Image.open(picture)).shape == (3 * 32, 8 * 32, 3)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--epsilon", "0"), "--epsilon: found '0'; expected numbers more than 0, none or raw"),
        (("--cut_layer", "6"), "mistnet.cut_layer: found '6'; expected one of 1, 2, 3, 4, 5 with yolov5"),
        (("--images", "nowhere"), "--images nowhere: no such directory"),
    ],
)
def test_what_is_refused(given, arguments, problem):
    result = run(*given, *arguments)
    assert (result.returncode, result.stderr.strip()) == (2, f"error: {problem}")
