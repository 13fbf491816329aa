"""The command that exports a checkpoint, with Faster R-CNN and with what it refuses."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo import runtime
from cross_silo.checkpoint import init_model, newest_checkpoint
from cross_silo.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("export_tool", ROOT / "tools" / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A directory with a tiny model's YAML, an initial checkpoint of it and an image."""
    directory = tmp_path_factory.mktemp("export")
    # A network that has learned nothing gives every class about the same score; above the threshold is enough here.
    text = f"base: {ROOT / 'configs' / 'faster_rcnn_tiny.yaml'}\nnum_classes: 3\ntest_score_thr: 0.2\n"
    (directory / "model.yaml").write_text(text)
    (directory / "silent.yaml").write_text(text.replace("0.2", "1.0"))
    runtime.start(seed=1)
    arguments = ["--config", str(directory / "model.yaml"), "--checkpoint_dir", str(directory), "--fl_name", "job"]
    init_model.main(arguments)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(directory / "image.png")
    return directory


def flags(site, out, **others):
    given = {
        "config": site / "model.yaml",
        "checkpoint": newest_checkpoint(site, "job"),
        "format": "mindir",
        "image": site / "image.png",
        "out": out,
        **others,
    }
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]


@pytest.mark.parametrize(("file_format", "batch"), [("mindir", 2), ("onnx", 1)])
def test_the_whole_detector_is_exported(tool, site, tmp_path, capsys, file_format, batch):
    out = tmp_path / "new" / "model.bin"
    assert tool.main([*flags(site, out, format=file_format, batch=batch), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    agreement = report["agreement"]
    assert agreement["expected"] == agreement["found"] == agreement["matched"] >= batch
    assert agreement["box_error"] < 0.01
    description = json.loads(Path(f"{out}.json").read_text())
    assert description["inputs"] == {"images": {"dtype": "uint8", "shape": [batch, 64, 64, 3]}}
    assert description["outputs"]["boxes"] == {"dtype": "float32", "shape": [batch, 32, 3, 4]}
    assert sorted(path.name for path in out.parent.iterdir()) == ["model.bin", "model.bin.json"]
    tool.show(report)
    assert f"{agreement['matched']} of {agreement['expected']} detections" in capsys.readouterr().out
    if file_format == "onnx":
        run_documented_program(out, site, capsys, agreement["found"])


def run_documented_program(model, site, capsys, detections):
    """Run the first program of docs/export.md, which detects as many objects as the check found."""
    program, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    for name, path in (("model.onnx", model), ("image.png", site / "image.png")):
        program = program.replace(f'"{name}', f'"{path}')
    exec(compile(program.replace("score_thr=0.05", "score_thr=0.2"), "docs/export.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == detections


def test_a_file_that_detects_otherwise_is_not_kept(tool, site, tmp_path, monkeypatch):
    from cross_silo.export import checkpoint

    monkeypatch.setattr(checkpoint, "run", lambda *_: [np.zeros((1, 32, 3)), np.zeros((1, 32, 3, 4))])
    with pytest.raises(UserError, match=r"the network detects \d+ objects, the exported file 0, of which 0 agree"):
        tool.main(flags(site, tmp_path / "model.mindir"))
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named(tool, site, tmp_path):
    (tmp_path / "other.yaml").write_text("detector: tests.support.tiny_detector\nnum_classes: 3\n")
    (tmp_path / "image.png").write_bytes(b"no image")
    out = tmp_path / "out" / "model.mindir"
    for others, message in (
        ({"batch": 0}, "--batch is 0"),
        ({"image": tmp_path / "nowhere.png"}, "--image .*nowhere.png: No such file"),
        ({"image": tmp_path / "image.png"}, "--image .*image.png: "),
        ({"config": tmp_path / "other.yaml"}, "detector tests.support.tiny_detector has no export_cell"),
        ({"config": site / "silent.yaml"}, "--image .*image.png: the network detects nothing there"),
    ):
        with pytest.raises(UserError, match=message):
            tool.main(flags(site, out, **others))
    assert not out.parent.exists()
