"""Public implementations whose training step train_step.py measures beside ours, from a checkout of theirs."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence, Tuple

import numpy as np
import yaml

from cross_silo.config.model import Model
from cross_silo.errors import UserError

Step = Callable[[], Any]
Batch = Sequence[np.ndarray]
"""image, boxes, labels, valid, noise, as a training cell takes them."""


@dataclass(frozen=True)
class Peer:
    """Another implementation of a detector of ours."""

    name: str
    detector: str
    """Ours that it is compared with."""
    checkout: str
    """What --peer names."""
    file: str
    """By which a checkout is known."""
    build: Callable[[str, Model, Batch], Tuple[Step, int]]
    """From checkout, our model and a batch to a training step and the number of its trainable parameters."""


def find_peer(checkout: str, detector: str) -> Peer:
    """Return the peer of ``detector`` whose checkout is ``checkout``. Raises UserError where it is none."""
    peers = [peer for peer in PEERS if peer.detector == detector]
    for peer in peers:
        if (Path(checkout) / peer.file).is_file():
            return peer
    if not peers:
        raise UserError(f"--peer: found a checkout for detector {detector!r}; there is none to compare it with")
    raise UserError(f"--peer: {checkout} has no {peers[0].file}; expected {peers[0].checkout}")


def zoo_faster_rcnn(checkout: str, model: Model, batch: Batch) -> Tuple[Step, int]:
    """The model zoo's network with its own loss, loss scale and optimizer, forward and backward once a step."""
    config, settings = model.config, model.detector_settings
    values = {"device_target": "CPU", "num_classes": config.num_classes + 1}
    values.update({key: getattr(config, key) for key in ("img_width", "img_height", "batch_size", "num_gts")})
    values.update(
        rpn_proposal_nms_pre=settings.rpn_proposal_nms_pre,
        rpn_proposal_nms_post=settings.rpn_proposal_max_num,
        rpn_proposal_max_num=settings.rpn_proposal_max_num,
        num_bboxes_stage2=settings.rpn_proposal_max_num,
    )
    # Its configuration is read from the command line when it is imported, and printed.
    sys.argv = [sys.argv[0], *(part for key, value in values.items() for part in (f"--{key}", str(value)))]
    sys.path.insert(0, checkout)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from mindspore import Tensor, nn, ops
    from src.FasterRcnn.faster_rcnn import Faster_Rcnn
    from src.model_utils.config import config as zoo
    from src.network_define import LossNet, WithLossCell

    network = Faster_Rcnn(config=zoo).set_train()
    optimizer = nn.SGD(network.trainable_params(), zoo.base_lr / 8, zoo.momentum, zoo.weight_decay)

    class Scaled(nn.Cell):
        """The loss times its scale, and the loss."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.loss = WithLossCell(network, LossNet())

        def construct(self, image, meta, boxes, labels, valid):
            loss = self.loss(image, meta, boxes, labels, valid).sum()
            return loss * zoo.loss_scale, loss

    class TrainStep(nn.Cell):
        """Forward, gradients and update."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.optimizer = optimizer
            self.gradient = ops.value_and_grad(Scaled(), None, optimizer.parameters, has_aux=True)

        def construct(self, image, meta, boxes, labels, valid):
            (_, loss), gradients = self.gradient(image, meta, boxes, labels, valid)
            return ops.depend(loss, self.optimizer(gradients))

    image, boxes, labels, valid, _ = batch
    pixels = ((image.astype(np.float32) - 127) / 58).transpose(0, 3, 1, 2).copy()
    meta = np.tile(np.float32([config.img_height, config.img_width, 1]), (len(image), 1))
    inputs = [Tensor(x) for x in (pixels, meta, boxes, labels + 1, valid.astype(bool))]
    step = TrainStep().set_train()
    return lambda: step(*inputs).asnumpy(), sum(p.size for p in network.trainable_params())


def mindyolo_yolov5(checkout: str, model: Model, batch: Batch) -> Tuple[Step, int]:
    """mindyolo's network of the same variant with its own loss, parameter groups, optimizer and compiled step."""
    config, settings = model.config, model.detector_settings
    root = Path(checkout)
    # A step needs neither the data pipeline, which the package's own __init__ imports, nor OpenCV.
    package = types.ModuleType("mindyolo")
    package.__path__ = [str(root / "mindyolo")]  # type: ignore[attr-defined]
    sys.modules.update(mindyolo=package, cv2=types.ModuleType("cv2"))
    from mindspore import Tensor
    from mindyolo.models import create_loss, create_model
    from mindyolo.optim.group_params import create_group_param
    from mindyolo.optim.optim_factory import create_optimizer
    from mindyolo.utils.config import Config
    from mindyolo.utils.train_step_factory import create_train_step_fn, get_gradreducer, get_loss_scaler

    recipes = root / "configs" / "yolov5"
    layout = Config(yaml.safe_load((recipes / f"yolov5{settings.variant}.yaml").read_text())["network"])
    recipe = yaml.safe_load((recipes / "hyp.scratch-low.yaml").read_text())
    network = create_model(model_name="yolov5", model_cfg=layout, num_classes=config.num_classes).set_train()
    loss = create_loss(**recipe["loss"], anchors=layout.anchors, stride=layout.stride, nc=config.num_classes)
    hyper = dict(recipe["optimizer"], epochs=10, steps_per_epoch=100, accumulate=1, total_batch_size=config.batch_size)
    groups = create_group_param(params=network.trainable_params(), **hyper)
    optimizer = create_optimizer(params=groups, lr=hyper["lr_init"], **hyper)
    reducer, scaler = get_gradreducer(False, optimizer.parameters), get_loss_scaler("none")
    train_step = create_train_step_fn("detect", network, loss, optimizer, 1, scaler, reducer, ms_jit=True)

    image, boxes, labels, valid, _ = batch
    height, width = image.shape[1:3]
    rows = np.full((*valid.shape, 6), -1, np.float32)  # image, class, then centre and size relative to the image
    rows[..., 0] = np.arange(len(image))[:, None]
    rows[..., 1] = np.where(valid == 1, labels, -1)
    low, high = boxes[..., :2], boxes[..., 2:]
    rows[..., 2:] = np.concatenate([(low + high) / 2, high - low], -1) / np.float32([width, height] * 2)
    inputs = Tensor(image.transpose(0, 3, 1, 2).astype(np.float32) / 255), Tensor(rows)

    def step() -> np.ndarray:
        return train_step(*inputs)[0].asnumpy()

    return step, sum(p.size for p in network.trainable_params())


PEERS = (
    Peer(
        "model zoo",
        "faster_rcnn",
        "official/cv/FasterRCNN of a mindspore-ai/models checkout",
        "src/FasterRcnn/faster_rcnn.py",
        zoo_faster_rcnn,
    ),
    Peer("mindyolo", "yolo", "a mindyolo checkout", "mindyolo/models/yolov5.py", mindyolo_yolov5),
)
