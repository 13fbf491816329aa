"""Writing and running MindIR and ONNX files of small cells."""

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.errors import UserError
from cross_silo.export import FORMATS
from cross_silo.export.files import refusal, require_packages, run, write

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    runtime.start(seed=1)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_written_file_computes_what_the_cell_does(tmp_path, file_format):
    from mindspore import nn, ops

    class Cell(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, has_bias=True)

        def construct(self, image):
            x = self.conv((image.astype("float32") / 255).transpose(0, 3, 1, 2))
            best, where = ops.topk(x.reshape(x.shape[0], -1), 5)
            shares = ops.sigmoid(best)
            return shares, where, (shares * 100).astype("int32")  # read again; as it is; cast

    cell = Cell()
    path = tmp_path / f"model.{file_format}"
    write(cell, file_format, IMAGES, ("shares", "where", "percent"), path)
    weight, bias = cell.conv.weight.asnumpy(), cell.conv.bias.asnumpy()
    padded = np.pad(IMAGES / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))  # (N, H, W, 3, 3, 3)
    flat = (np.einsum("nhwcij,ocij->nohw", windows, weight) + bias[:, None, None]).reshape(2, -1)
    order = np.argsort(-flat, 1, kind="stable")[:, :5]
    shares, where, percent = run(path, file_format, IMAGES)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-np.take_along_axis(flat, order, 1))), rtol=1e-5)
    np.testing.assert_array_equal(where, order)
    np.testing.assert_array_equal(percent, (shares * 100).astype(np.int32))


def test_the_outputs_of_an_onnx_file_have_their_names(tmp_path):
    import onnxruntime
    from mindspore import nn

    class Cell(nn.Cell):
        def construct(self, image):
            x = image.astype("float32")
            return x, x + 1

    path = tmp_path / "model.onnx"
    write(Cell(), "onnx", IMAGES, ("one", "two"), path)
    session = onnxruntime.InferenceSession(str(path))
    assert [tensor.name for tensor in session.get_inputs()] == ["images"]
    assert [tensor.name for tensor in session.get_outputs()] == ["one", "two"]
    np.testing.assert_array_equal(session.run(["two"], {"images": IMAGES})[0], IMAGES + 1.0)


def test_an_operator_that_onnx_export_lacks_is_named(tmp_path):
    from mindspore import nn, ops

    class Cell(nn.Cell):
        def construct(self, image):
            return ops.amin(image.astype("float32"), axis=1)

    path = tmp_path / "model.onnx"
    with pytest.raises(UserError, match="--format onnx: MindSpore's exporter cannot express the operator ReduceMin$"):
        write(Cell(), "onnx", IMAGES, ("least",), path)
    assert not path.exists()


def test_another_refusal_is_told_in_its_first_line():
    assert refusal("\nCast failed.\n----\nC++ stack") == "MindSpore's exporter refuses: Cast failed."
    assert refusal("") == "MindSpore's exporter refuses: it gives no reason"


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_does_not_run_is_an_error(tmp_path, file_format):
    path = tmp_path / f"model.{file_format}"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=f"--format {file_format}: the exported file does not run: "):
        run(path, file_format, IMAGES)


def test_onnx_without_its_runtime_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_packages("mindir")
    with pytest.raises(UserError, match=r"pip install 'cross-silo\[export\]'"):
        require_packages("onnx")
