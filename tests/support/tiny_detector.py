"""A detector of a few parameters that needs no compilation: it finds squares of pure red, green or blue.

Class 0, 1, 2 is the channel; a pixel belongs to an object where its channel exceeds the parameter ``threshold``.
"""

from dataclasses import dataclass

import numpy as np

from cross_silo.data.transforms import ResizeAndPad


@dataclass(frozen=True)
class Settings:
    """Its own keys of the model YAML."""

    channels: int = 4


class Detector:
    """See cross_silo.detector.Detector."""

    tag = "tiny"
    settings_type = Settings
    loss_names = ("part",)
    noise_size = 0

    def __init__(self, settings, size):
        self.settings = settings
        self.size = size

    def build_network(self):
        from mindspore import Parameter, Tensor, nn

        class Network(nn.Cell):
            def __init__(self, channels):
                super().__init__()
                self.conv = nn.Conv2d(3, channels, 3, weight_init="normal")
                self.bn = nn.BatchNorm2d(channels)
                self.threshold = Parameter(Tensor(np.float32(300)), name="threshold")
                self.counter = Parameter(Tensor(np.int32(0)), name="counter", requires_grad=False)

        return Network(self.settings.channels)

    def predictor(self, network):
        def predict(images):
            assert images.shape == (self.size.eval_batch_size, self.size.height, self.size.width, 3)
            assert images.dtype == np.uint8
            threshold = float(network.threshold.asnumpy())
            return [self._find(image, threshold) for image in images]

        return predict

    def _find(self, image, threshold):
        boxes, labels = [], []
        for label in range(self.size.num_classes):
            others = np.delete(image, label, axis=2).max(axis=2)
            ys, xs = np.nonzero((image[:, :, label] > threshold) & (others < 100))
            if len(ys):
                boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                labels.append(label)
        scores = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
        return np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, np.int32)

    def eval_transforms(self):
        return [ResizeAndPad(self.size.height, self.size.width)]

    def map_pretrained(self, name):
        return None if name.startswith("head.") else name.replace("backbone.", "")


class WithClassLayer(Detector):
    """The same with a tensor that depends on the number of classes and does not train."""

    def build_network(self):
        from mindspore import Parameter, Tensor

        network = super().build_network()
        values = np.random.default_rng(self.size.num_classes).random((self.size.num_classes, 4), np.float32)
        network.classes = Parameter(Tensor(values), name="classes", requires_grad=False)
        return network
