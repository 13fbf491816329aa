"""Trains a small convolution with batch norm, with or without the compile cache, and prints what came of it as JSON.

Arguments: the cache's directory or "", a seed of the initial weights and one of the weights set later ("" for none).
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np

from cross_silo import runtime
from cross_silo.config.model import ModelConfig
from cross_silo.data.batch import Batch

runtime.prepare()
runtime.start(seed=int(sys.argv[2]))

import mindspore  # noqa: E402
from mindspore import nn  # noqa: E402

from cross_silo.training.compile_cache import CompileCache  # noqa: E402
from cross_silo.training.mindspore_trainer import MindSporeTrainer  # noqa: E402


class Network(nn.Cell):
    """Its weights are drawn with MindSpore's seed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, weight_init="normal")
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Dense(4, 1, weight_init="normal")


class Losses(nn.Cell):
    """The squared distance of the head's output from the noise."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, image, boxes, labels, valid, noise):
        pixels = image.astype(mindspore.float32).transpose(0, 3, 1, 2) / 255
        features = self.network.norm(self.network.conv(pixels)).mean((2, 3))
        loss = ((self.network.head(features) - noise) ** 2).mean()
        return loss, loss


class Detector:
    loss_names = ("distance",)
    noise_size = 1

    def training_cell(self, network):
        return Losses(network)


class Loader:
    num_images, steps_per_epoch, wait_seconds = 4, 2, 0.0

    def epoch(self, epoch_index, first_step=0):
        for step in range(first_step, self.steps_per_epoch):
            pixels = np.random.default_rng([epoch_index, step]).integers(0, 256, (2, 8, 8, 3))
            empty = np.zeros((2, 1), np.int32)
            yield Batch(pixels.astype(np.uint8), np.zeros((2, 1, 4), np.float32), empty, empty, np.zeros(2, np.int64))


def main(directory, later):
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    cache = CompileCache(directory, ["probe"], (Detector,), deadline=60) if directory else None
    config = ModelConfig("d", batch_size=2, img_height=8, img_width=8, num_gts=1)
    trainer = MindSporeTrainer(Detector(), Network(), Loader(), config, 1, cache)
    trainer.compile()
    losses = []
    trainer.train(5, lambda record: losses.append(record.loss))
    if later:
        rng = np.random.default_rng(int(later))
        trainer.set_weights({name: rng.random(shape, np.float32) for name, shape in trainer.shapes().items()})
        trainer.train(5, lambda record: losses.append(record.loss))
    tensors = {**trainer.get_weights(), **trainer.state()}
    print(json.dumps({"losses": losses, "tensors": {name: tensor.tolist() for name, tensor in tensors.items()}}))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1] else None, sys.argv[3])
