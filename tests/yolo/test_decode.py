"""Decoding against plain loops over levels, positions, anchors and classes."""

import math

import numpy as np

from yolo.settings import STRIDES, Settings

ANCHORS = ((6.0, 9.0, 16.0, 12.0), (20.0, 30.0, 30.0, 16.0), (50.0, 40.0, 40.0, 60.0))
HEIGHT, WIDTH, CLASSES = 64, 96, 3


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_every_anchor_at_every_position_is_decoded():
    from mindspore import Tensor, nn

    from yolo.decode import DetectionCell

    rng = np.random.default_rng(0)
    raw = [rng.normal(0, 2, (2, 2 * (5 + CLASSES), HEIGHT // s, WIDTH // s)).astype(np.float32) for s in STRIDES]

    class Fixed(nn.Cell):
        def __init__(self):
            super().__init__()
            self.levels = [Tensor(level) for level in raw]

        def construct(self, image):
            return self.levels[0], self.levels[1], self.levels[2]

    cell = DetectionCell(Fixed(), Settings(anchors=ANCHORS), HEIGHT, WIDTH)
    scores, boxes = (out.asnumpy() for out in cell(Tensor(np.zeros((2, HEIGHT, WIDTH, 3), np.uint8))))

    for image in range(2):
        row = 0
        for level, stride, anchors in zip(raw, STRIDES, ANCHORS):
            for a in range(2):
                for i in range(HEIGHT // stride):
                    for j in range(WIDTH // stride):
                        p = [sigmoid(v) for v in level[image, a * (5 + CLASSES) : (a + 1) * (5 + CLASSES), i, j]]
                        x, y = (2 * p[0] - 0.5 + j) * stride, (2 * p[1] - 0.5 + i) * stride
                        w, h = (2 * p[2]) ** 2 * anchors[2 * a], (2 * p[3]) ** 2 * anchors[2 * a + 1]
                        expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                        np.testing.assert_allclose(boxes[image, row], expected, rtol=1e-4, atol=1e-3)
                        np.testing.assert_allclose(scores[image, row], [p[4] * q for q in p[5:]], rtol=1e-4)
                        row += 1
        assert row == scores.shape[1] == boxes.shape[1]
