"""An exported YOLOv5 detects what the network does."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo.checkpoint import init_model, newest_checkpoint
from cross_silo.export.checkpoint import export_checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "yolov5_tiny.yaml"


@pytest.mark.parametrize("file_format", ["mindir", "onnx"])
def test_the_file_detects_what_the_network_does(tmp_path, capsys, file_format):
    (tmp_path / "model.yaml").write_text(f"base: {CONFIG}\nnum_classes: 3\n")
    init_model.main(["--config", str(tmp_path / "model.yaml"), "--checkpoint_dir", str(tmp_path), "--fl_name", "job"])
    capsys.readouterr()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    out = tmp_path / f"model.{file_format}"
    report = export_checkpoint(
        str(tmp_path / "model.yaml"),
        str(newest_checkpoint(tmp_path, "job")),
        file_format,
        tmp_path / "image.png",
        1,
        out,
    )
    agreement = report["agreement"]
    assert out.stat().st_size == report["bytes"]
    assert agreement["expected"] > 10 and agreement["matched"] == agreement["expected"] == agreement["found"]
    described = json.loads(Path(f"{out}.json").read_text())
    positions = 3 * (8 * 8 + 4 * 4 + 2 * 2)
    assert str([1, positions, 3]) in str(described) and str([1, positions, 4]) in str(described)
