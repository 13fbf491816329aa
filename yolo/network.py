"""YOLOv5 release 6: backbone, path-aggregation neck (Liu et al. 2018) and head; layers are numbered as in the field."""

from __future__ import annotations

from typing import List, Tuple

from mindspore import Tensor, nn

from yolo.layers import C3, SPPF, Concat, Conv, Detect, Upsample
from yolo.settings import CUTS, LAYERS, STRIDES, Settings
from yolo.specification import LEVELS, SPECIFICATION, scaled_channels, scaled_depth

Outputs = Tuple[Tensor, Tensor, Tensor]


def build_layers(settings: Settings, count: int = LAYERS) -> Tuple[List[nn.Cell], List[int]]:
    """Return the first ``count`` layers and their output channels."""
    depth_multiple, width_multiple = settings.multiples
    layers: List[nn.Cell] = []
    channels: List[int] = []
    for kind, sources, full_channels, full_depth in SPECIFICATION[:count]:
        inputs = sum(channels[source] for source in sources) if channels else 3
        outputs = scaled_channels(full_channels, width_multiple) if full_channels else inputs
        depth = scaled_depth(full_depth, depth_multiple)
        if kind == "stem":
            layers.append(Conv(inputs, outputs, 6, 2, stem=True))
        elif kind == "conv":
            layers.append(Conv(inputs, outputs, 3, 2))
        elif kind == "pointwise":
            layers.append(Conv(inputs, outputs))
        elif kind in ("c3", "c3_plain"):
            layers.append(C3(inputs, outputs, depth, shortcut=kind == "c3"))
        elif kind == "sppf":
            layers.append(SPPF(inputs, outputs))
        else:
            layers.append(Upsample() if kind == "upsample" else Concat())
        channels.append(outputs)
    return layers, channels


def check_cut(cut: int) -> None:
    """Refuse a cut at which one tensor is not enough."""
    if cut not in CUTS:
        raise ValueError(f"cut: expected one of {CUTS}")


class YOLOv5Network(nn.Cell):
    """The parameters, named ``model.{layer}.…``; construct gives the raw output of the three levels."""

    def __init__(self, settings: Settings, num_classes: int) -> None:
        super().__init__()
        layers, channels = build_layers(settings)
        head = Detect([channels[i] for i in LEVELS], STRIDES, settings.anchors_per_position, num_classes)
        self.model = nn.CellList([*layers, head])
        for layer in list(self.model)[: settings.freeze]:
            for parameter in layer.get_parameters():
                parameter.requires_grad = False
            for _, cell in layer.cells_and_names():
                if isinstance(cell, nn.BatchNorm2d):
                    cell.use_batch_statistics = False

    def construct(self, image: Tensor) -> Outputs:
        """From uint8 RGB (N, H, W, 3), H and W multiples of 32, to three float32 (N, A * (5 + classes), h, w).

        Strides 8, 16 and 32. Channel a * (5 + classes) + k is anchor a's k-th value of x, y, w, h, objectness, classes.
        """
        return self.forward_from(self.forward_to(image, 1), 1)

    def forward_to(self, image: Tensor, cut: int) -> Tensor:
        """Return the output of layer ``cut`` - 1; ``cut`` is one of CUTS."""
        check_cut(cut)
        x = image
        for layer in range(cut):
            x = self.model[layer](x)
        return x

    def forward_from(self, tensor: Tensor, cut: int) -> Outputs:
        """Return the levels' outputs from that of layer ``cut`` - 1."""
        check_cut(cut)
        outputs = (tensor,) * cut  # of layers 0 to cut - 1, of which the last alone is read
        for layer in range(cut, LAYERS):
            sources = SPECIFICATION[layer][1]
            if len(sources) == 1:
                outputs += (self.model[layer](outputs[-1]),)
            else:
                outputs += (self.model[layer]((outputs[-1], outputs[sources[1]])),)
        return self.model[LAYERS]((outputs[LEVELS[0]], outputs[LEVELS[1]], outputs[LEVELS[2]]))


class EdgeNetwork(nn.Cell):
    """The first ``cut`` layers of a :class:`YOLOv5Network` alone, their parameters under their names there."""

    def __init__(self, settings: Settings, cut: int) -> None:
        super().__init__()
        check_cut(cut)
        self.model = nn.CellList(build_layers(settings, cut)[0])

    def construct(self, image: Tensor) -> Tensor:
        """From uint8 RGB (N, H, W, 3) to the output of layer ``cut`` - 1, (N, C, h, w)."""
        x = image
        for layer in self.model:
            x = layer(x)
        return x


class TrainingCell(nn.Cell):
    """The losses of a batch."""

    def __init__(self, network: YOLOv5Network, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss

    def construct(
        self, image: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, noise: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return total, box, obj and cls; the arguments are those of the interface."""
        return self.loss(self.network(image), boxes, labels, valid)
