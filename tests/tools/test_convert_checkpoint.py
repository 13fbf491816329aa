"""The conversion command as a user runs it; the long tests have PyTorch write and read its files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.checkpoint.tensor_file import read_tensors, write_tensors
from faster_rcnn.names import anchor_shift
from faster_rcnn.settings import Settings
from tests.support import torch_files

ROOT = Path(__file__).parents[2]
TORCH_PYTHON = Path(os.environ.get("TORCH_PYTHON", ROOT / ".venv-torch" / "bin" / "python"))
"""An interpreter with torch and torchvision; scripts/test.sh --all makes the default one."""


def run(*arguments, check=True):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "convert_checkpoint.py", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def test_a_yolov5_pth_goes_in_and_out(tmp_path):
    rng = np.random.default_rng(0)
    weights = {"model.0.conv.weight": (16, 3, 6, 6), "model.0.bn.weight": (16,), "model.24.m.0.bias": (24,)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    given = {name: torch_files.tensor(str(i), value) for i, (name, value) in enumerate(weights.items())}
    given["model.0.bn.num_batches_tracked"] = torch_files.tensor("9", np.asarray(5, np.int64))
    torch_files.save(tmp_path / "yolov5.pth", given)
    report = json.loads(run("--in", tmp_path / "yolov5.pth", "--out", tmp_path / "yolov5.ckpt", "--json").stdout)
    assert report["written"] == 3 and list(report["left_out"]) == ["model.0.bn.num_batches_tracked"]
    found = read_checkpoint(tmp_path / "yolov5.ckpt")[0]
    np.testing.assert_array_equal(found["model.0.bn.gamma"], weights["model.0.bn.weight"])

    text = run("--in", tmp_path / "yolov5.ckpt", "--out", tmp_path / "out.pth").stdout
    assert "names: yolov5" in text and "anchors" in text
    back = read_tensors(tmp_path / "out.pth").tensors
    assert list(back) == list(weights)
    assert all(np.array_equal(back[name], value) for name, value in weights.items())


def test_a_refusal_is_one_line(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'effect'}",)

    torch_files.save(tmp_path / "a.pth", {"model": Attack()})
    done = run("--in", tmp_path / "a.pth", "--out", tmp_path / "a.ckpt", check=False)
    assert done.returncode == 2 and re.fullmatch(r"error: .*a\.pth is refused: it names posix\.system.*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def torch_run(directory, program):
    assert TORCH_PYTHON.exists(), f"{TORCH_PYTHON} is missing: bash scripts/test.sh --all makes it"
    done = subprocess.run(
        [TORCH_PYTHON, "-c", program], cwd=directory, check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


EVERY_TYPE = """
import collections, numpy, torch
torch.manual_seed(0)
run = torch.randn(10)
given = {
    "f4": torch.randn(3, 4, 5), "f8": torch.randn(2).double(), "f2": torch.randn(5).half(),
    "bf16": torch.randn(2, 3).bfloat16(), "i8": torch.tensor(-7), "i4": torch.arange(3).int(),
    "u1": torch.arange(5).byte(), "bool": torch.tensor([True, False]), "empty": torch.zeros(0, 3),
    "turned": torch.randn(4, 6).t(), "part": run[2:6], "other": run[5:],
    "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
}
torch.save(collections.OrderedDict(given), "zip.pth")
torch.save(given, "four.pth", pickle_protocol=4)
torch.save(given, "legacy.pth", _use_new_zipfile_serialization=False)
short = ("f2", "bf16")
numpy.savez("expected.npz", **{k: (v.float() if k in short else v).numpy() for k, v in given.items()})
"""


@pytest.mark.long
def test_every_type_that_pytorch_writes_is_read_and_what_is_written_pytorch_reads(tmp_path):
    torch_run(tmp_path, EVERY_TYPE)
    expected = dict(np.load(tmp_path / "expected.npz"))
    for name in ("zip", "four", "legacy"):
        found = read_tensors(tmp_path / f"{name}.pth").tensors
        assert list(found) == list(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)
            assert (found[key].shape, found[key].dtype) == (value.shape, value.dtype)
    write_tensors(tmp_path / "ours.pth", expected, CheckpointInfo())
    torch_run(
        tmp_path,
        "import numpy, torch\n"
        "expected = numpy.load('expected.npz')\n"
        "for mapped in (False, True):\n"
        "    found = torch.load('ours.pth', weights_only=True, mmap=mapped)\n"
        "    assert list(found) == list(expected)\n"
        "    for name in expected:\n"
        "        assert found[name].numpy().dtype == expected[name].dtype\n"
        "        assert numpy.array_equal(found[name].numpy(), expected[name]), name\n",
    )


WHOLE_NETWORK = """
import sys, types, numpy, torch
from torch import nn
module = types.ModuleType("models.yolo")
sys.modules["models"], sys.modules["models.yolo"] = types.ModuleType("models"), module
class DetectionModel(nn.Module):
    def __init__(self):
        super().__init__()
        conv = nn.Module()
        conv.conv, conv.bn, conv.act = nn.Conv2d(3, 8, 6, 2, 2, bias=False), nn.BatchNorm2d(8, 1e-3, 0.03), nn.SiLU()
        self.model = nn.Sequential(conv)
        self.names, self.stride, self.yaml = ["a", "b"], torch.tensor([8., 16., 32.]), {"nc": 2}
        self.register_buffer("passing", torch.zeros(3), persistent=False)
DetectionModel.__module__, module.DetectionModel = "models.yolo", DetectionModel
network = DetectionModel().half()
optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
torch.save({"epoch": -1, "best_fitness": numpy.float64(0.5), "ema": network, "model": DetectionModel(), "updates": 3,
            "optimizer": optimizer.state_dict()}, "yolov5.pt")
numpy.savez("expected.npz", **{k: v.float().numpy() for k, v in network.state_dict().items()})
"""


@pytest.mark.long
def test_a_pickled_network_has_the_tensors_of_its_state_dict(tmp_path):
    torch_run(tmp_path, WHOLE_NETWORK)
    found = read_tensors(tmp_path / "yolov5.pt")
    expected = np.load(tmp_path / "expected.npz")
    assert list(found.tensors) == list(expected) and found.info.classes == ("a", "b")
    for name, value in expected.items():
        np.testing.assert_array_equal(found.tensors[name], value)


DETECTOR = """
import numpy, torch, torchvision
torch.manual_seed(0)
model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
for name, value in model.state_dict().items():
    if value.ndim == 1:
        value.copy_(0.5 + torch.rand_like(value) if "running_var" in name or "bn" in name else torch.randn_like(value))
torch.save(model.state_dict(), "theirs.pth")
image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
with torch.no_grad():
    levels = list(model.backbone(((image / 255 - mean) / std).permute(0, 3, 1, 2)).values())
    logits, deltas = model.rpn.head(levels)
    regions = torch.randn(5, 256, 7, 7)
    scores, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(regions))
flat = lambda maps, values: torch.cat([m.permute(0, 2, 3, 1).reshape(1, -1, values) for m in maps], 1)
numpy.savez("expected.npz", image=image, regions=regions, scores=scores, boxes=boxes, logits=flat(logits, 1)[..., 0],
            deltas=flat(deltas, 4), **{f"level{i}": level for i, level in enumerate(levels)})
"""

DETECTOR_AGAIN = """
import numpy, torch, torchvision
model = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
state, given = torch.load("back.pth", weights_only=True), torch.load("theirs.pth", weights_only=True)
model.load_state_dict(state, strict=True)
assert set(given) - set(state) == {name for name in given if name.endswith("num_batches_tracked")}
for name, value in state.items():
    expected = given[name].clone()
    if "box_predictor.bbox_pred" in name:
        expected[:4] = 0
    assert torch.allclose(value, expected, rtol=1e-6, atol=1e-7), name
"""


@pytest.mark.long
def test_torchvisions_faster_rcnn_gives_the_same_features_logits_and_deltas(tmp_path):
    import mindspore

    from cross_silo.checkpoint.network import load_weights
    from cross_silo.config.model import load_model, make_detector

    torch_run(tmp_path, DETECTOR)
    config = tmp_path / "model.yaml"
    config.write_text("detector: faster_rcnn\nimg_height: 64\nimg_width: 96\nnum_classes: 3\n")
    run("--in", tmp_path / "theirs.pth", "--out", tmp_path / "ours.ckpt", "--config", config)
    weights, info = read_checkpoint(tmp_path / "ours.ckpt")
    network = make_detector(load_model(config)).build_network().set_train(False)
    load_weights(network, weights, info, "ours.ckpt")

    expected = np.load(tmp_path / "expected.npz")
    levels, logits, deltas = network(mindspore.Tensor(expected["image"]))
    scores, boxes = network.box_head(mindspore.Tensor(expected["regions"].transpose(0, 2, 3, 1).copy()))
    found = {f"level{i}": level.asnumpy() for i, level in enumerate(levels)}
    shift = anchor_shift(Settings()).reshape(3, 4)
    found["deltas"] = (deltas.asnumpy().reshape(-1, 3, 4) + shift).reshape(1, -1, 4)
    found.update(logits=logits.asnumpy(), scores=scores.asnumpy(), boxes=boxes.asnumpy())
    for name, value in found.items():
        theirs = expected[name].reshape(5, -1, 4)[:, 1:] if name == "boxes" else expected[name]
        np.testing.assert_allclose(value, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max(), err_msg=name)

    run("--in", tmp_path / "ours.ckpt", "--out", tmp_path / "back.pth")
    torch_run(tmp_path, DETECTOR_AGAIN)
