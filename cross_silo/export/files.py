"""Writes a cell as a MindIR or ONNX file, and runs such a file."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

import numpy as np

from cross_silo.errors import UserError
from cross_silo.export import MINDIR, ONNX

if TYPE_CHECKING:
    from mindspore import nn

INPUT_NAME = "images"
NO_OPERATOR = re.compile(r"Can not find key (\w+) in convert map")
"""What MindSpore's ONNX exporter says of an operator that it does not know."""


def require_packages(file_format: str) -> None:
    """Refuse a format whose packages are not installed here. Raises UserError."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if file_format == ONNX and missing:
        raise UserError(
            f"--format onnx: {' and '.join(missing)} not installed, with which the file is written and checked; "
            "expected: pip install 'cross-silo[export]'"
        )


def write(cell: "nn.Cell", file_format: str, images: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Write ``cell``, for images of the shape of ``images``, to ``path``, which ends in the format's name.

    Raises:
        UserError: the exporter has no such operator, or refuses for another reason that it names.
    """
    import mindspore
    from mindspore import Tensor

    cell.set_train(False)
    if file_format == MINDIR:
        mindspore.export(cell, Tensor(images), file_name=str(path), file_format="MINDIR")
        if not path.is_file():
            raise UserError("--format mindir: a model above 1 GB is spread over files, expected a smaller one")
        os.chmod(path, 0o644)  # MindSpore makes it readable by its owner alone
        return
    try:
        mindspore.onnx.export(cell, Tensor(images), file_name=str(path), input_names=[INPUT_NAME])
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"--format onnx: {refusal(str(error))}") from None
    name_outputs(path, names)


def name_outputs(path: Path, names: Sequence[str]) -> None:
    """Name the outputs of the ONNX file at ``path``.

    MindSpore 2.10's own ``output_names`` breaks the graph where an output is a cast or is read by another operator.
    """
    import onnx

    model = onnx.load(str(path))
    for output, name in zip(model.graph.output, names):
        model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [name]))
        output.name = name
    onnx.save(model, str(path))


def refusal(message: str) -> str:
    """Return why the ONNX exporter refused, from its ``message``: the operator if it names one."""
    operator = NO_OPERATOR.search(message)
    if operator:
        return f"MindSpore's exporter cannot express the operator {operator[1]}"
    return f"MindSpore's exporter refuses: {next(iter(message.strip().splitlines()), 'it gives no reason')}"


def run(path: Path, file_format: str, images: np.ndarray) -> List[np.ndarray]:
    """Return the outputs of the file at ``path`` for ``images``.

    Raises:
        UserError: the file does not run.
    """
    try:
        return _run_mindir(path, images) if file_format == MINDIR else _run_onnx(path, images)
    except Exception as error:  # a runtime's own exceptions have no common base
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"--format {file_format}: the exported file does not run: {reason}") from None


def _run_mindir(path: Path, images: np.ndarray) -> List[np.ndarray]:
    import mindspore
    from mindspore import Tensor, nn

    outputs = nn.GraphCell(mindspore.load(str(path)))(Tensor(images))
    return [output.asnumpy() for output in (outputs if isinstance(outputs, (tuple, list)) else (outputs,))]


def _run_onnx(path: Path, images: np.ndarray) -> List[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT_NAME: images})
