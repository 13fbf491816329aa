"""What a model costs: parameters by part, and the multiply-adds and activations of one image's detection.

Multiply-adds and activations are read from the graph that MindSpore compiled for the predictor, so that what is
counted is what runs; any detector's can be read.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, Sequence, Tuple

from cross_silo.config.model import ModelConfig
from cross_silo.errors import UserError
from cross_silo.evaluation.predict import fill_batch

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detector

Shape = Tuple[int, ...]
ELSEWHERE = "elsewhere"
"""Part of an operation that belongs to no part with parameters."""
CONVOLUTIONS = ("Conv2D", "Conv2DExt", "Conv2DPadding", "Convolution", "Conv3D", "DepthwiseConv2dNative")
PRODUCTS = ("MatMul", "MatMulExt", "BatchMatMul", "BatchMatMulExt", "Dense")
ALIKE = re.compile(r"Conv|MatMul|Dense|Einsum")
"""Names of operations that multiply as well; one that is not counted is told."""
NODE = re.compile(r"\s+%\d+\([^)]*\) = (?:PrimFunc_|PrimAlias_)?(\w+)\(.*")
TENSOR = re.compile(r"\[?Tensor\[(\w+)\]\]?, \(([\d, ]*)\)")
SCOPE = re.compile(r"\s+# Fullname with scope: \((.*)\)")
GRAPH = "validate"
"""MindSpore's name of the compilation step whose graph is read: inlined, before anything of the device."""
BYTES = {"Float16": 2, "BFloat16": 2, "Float64": 8}


@dataclass
class Part:
    """A part of the network: the first word of its parameters' names."""

    trainable: int = 0
    """Parameters that training changes."""
    frozen: int = 0
    """Weights and affine parameters that it does not."""
    statistics: int = 0
    """Batch norm's running means and variances."""
    macs: int = 0
    """Multiply-adds of convolutions and matrix products, for one image."""
    activation_bytes: int = 0
    """Outputs of these, for one image."""


@dataclass(frozen=True)
class Operation:
    """A convolution or matrix product in the compiled graph."""

    name: str
    scope: str
    inputs: Sequence[Shape]
    output: Shape
    item_bytes: int = 4

    @property
    def macs(self) -> int:
        """Multiply-adds: outputs times products summed up for each."""
        if self.name in CONVOLUTIONS:
            return math.prod(self.output) * math.prod(self.inputs[1][1:])
        return math.prod(self.output) * (math.prod(self.inputs[0]) // math.prod(self.output[:-1]))


@dataclass(frozen=True)
class Costs:
    """Operations of the compiled predictor."""

    operations: List[Operation]
    uncounted: Dict[str, int] = field(default_factory=dict)
    """Other operations that multiply, by name: how many there are."""


STATISTIC = re.compile(r"moving_mean$|moving_variance$")


def count_parameters(network: "nn.Cell") -> Dict[str, Part]:
    """Return the network's parts with their parameters."""
    parts: Dict[str, Part] = {}
    for parameter in network.get_parameters():
        part = parts.setdefault(parameter.name.split(".")[0], Part())
        if STATISTIC.search(parameter.name):
            part.statistics += parameter.size
        elif parameter.requires_grad:
            part.trainable += parameter.size
        else:
            part.frozen += parameter.size
    return parts


def count_costs(detector: "Detector", network: "nn.Cell", config: ModelConfig) -> Costs:
    """Compile the predictor and return its operations, for ``eval_batch_size`` images.

    MindSpore must have been started, and this process must not have compiled anything before.

    Raises:
        UserError: MindSpore did not write the compiled graph.
    """
    with tempfile.TemporaryDirectory(prefix="cross_silo_graph_") as directory:
        with _dumping(directory):
            predict = detector.predictor(network)
            predict(fill_batch([], config.eval_batch_size, (config.img_height, config.img_width)))
        files = sorted(Path(directory).rglob(f"*_{GRAPH}_*.ir"))
        if not files:
            raise UserError("MindSpore did not write the compiled graph: multiply-adds cannot be counted")
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    costs = Costs([])
    for text in texts:
        read_graph(text, costs)
    return costs


@contextmanager
def _dumping(directory: str) -> Iterator[None]:
    """Let MindSpore write the compiled graph as text; its documented debugging variables ask for that."""
    wanted = {"MS_DEV_SAVE_GRAPHS": "1", "MS_DEV_SAVE_GRAPHS_PATH": directory, "MS_DEV_DUMP_IR_PASSES": GRAPH}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_graph(text: str, costs: Costs) -> None:
    """Add the operations of a graph in MindSpore's text form to ``costs``."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        node = NODE.match(line)
        if node is None or not ALIKE.search(node[1]):
            continue
        if node[1] not in CONVOLUTIONS + PRODUCTS:
            costs.uncounted[node[1]] = costs.uncounted.get(node[1], 0) + 1
            continue
        inputs, _, output = lines[place + 1].partition(" -> ")
        scope = next(filter(None, (SCOPE.match(each) for each in lines[place + 2 : place + 6])), None)
        shapes = [_shape(dimensions) for _, dimensions in TENSOR.findall(inputs)]
        [(kind, dimensions)] = TENSOR.findall(output)
        operation = Operation(node[1], scope[1] if scope else "", shapes, _shape(dimensions), BYTES.get(kind, 4))
        costs.operations.append(operation)


def _shape(dimensions: str) -> Shape:
    return tuple(int(number) for number in dimensions.split(",") if number.strip())


def add_costs(parts: Mapping[str, Part], costs: Costs, images: int) -> Dict[str, Part]:
    """Return ``parts`` with the operations of ``images`` images shared out among them, for one image."""
    result = {name: replace(part) for name, part in parts.items()}
    for operation in costs.operations:
        words = [step.split("-")[0] for step in operation.scope.split("/")]
        name = next((word for word in words if word in parts), ELSEWHERE)
        part = result.setdefault(name, Part())
        part.macs += operation.macs
        part.activation_bytes += math.prod(operation.output) * operation.item_bytes
    for part in result.values():
        part.macs = round(part.macs / images)
        part.activation_bytes = round(part.activation_bytes / images)
    return result
