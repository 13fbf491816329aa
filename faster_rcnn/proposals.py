"""Proposals from the RPN's output: the best anchors of each level, decoded and suppressed (Lin et al. 2017, 4.1)."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np
from mindspore import Tensor, nn, ops

from faster_rcnn.box_coding import decode
from faster_rcnn.sampler import take

DROPPED = -1e9
"""Below every logit: the score of a suppressed box."""


class Proposals(nn.Cell):
    """The best ``max_num`` boxes of each image after non-maximum suppression within each level.

    Suppression is one operator for the whole batch: boxes are shifted so that those of different images lie
    side by side and those of different levels below each other, where they cannot overlap.

    Args:
        anchors: each level's anchors (K, 4), x1, y1, x2, y2 in pixels.
        height, width: of the images, pixels.
        nms_pre: boxes a level that enter the suppression.
        max_num: boxes an image that leave it.
        nms_thr: IoU above which the worse of two boxes goes.
        min_size: pixels; boxes with a shorter side are dropped.
    """

    def __init__(
        self,
        anchors: Sequence[np.ndarray],
        height: int,
        width: int,
        nms_pre: int,
        max_num: int,
        nms_thr: float,
        min_size: float,
    ) -> None:
        super().__init__()
        counts = [len(level) for level in anchors]
        self.starts = [int(start) for start in np.cumsum([0, *counts])]
        self.kept = [min(nms_pre, count) for count in counts]
        self.max_num = min(max_num, sum(self.kept))
        self.height, self.width, self.min_size = height, width, min_size
        self.anchors = Tensor(np.concatenate(anchors))
        level = np.repeat(np.arange(len(counts), dtype=np.float32), self.kept)
        self.level_shift = Tensor(level[None] * (height + 1))  # (1, k)
        self.nms = ops.NMSWithMask(nms_thr)

    def construct(self, logits: Tensor, deltas: Tensor) -> Tuple[Tensor, Tensor]:
        """From logits (N, K) and deltas (N, K, 4) to boxes (N, max_num, 4) in pixels, best first, and a bool mask.

        Rows without a proposal are where the mask is False.
        """
        n = logits.shape[0]
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        scores, indices = (), ()
        for level in range(len(self.kept)):
            start = self.starts[level]
            score, index = ops.topk(logits[:, start : self.starts[level + 1]], self.kept[level])
            scores += (score,)
            indices += (index + start,)
        score = ops.concat(scores, 1)  # (N, k)
        index = ops.concat(indices, 1)
        references = ops.gather(self.anchors, index, 0)
        boxes = decode(take(deltas, index), references, self.height, self.width)  # (N, k, 4)
        sides = boxes[..., 2:] - boxes[..., :2]
        shorter = ops.minimum(sides[..., 0], sides[..., 1])  # an ONNX export has no reduction to a minimum
        score = ops.where(shorter >= self.min_size, score, Tensor(np.float32(DROPPED)))

        image_shift = Tensor(np.arange(n, dtype=np.float32)[:, None] * (self.width + 1)) + 0 * self.level_shift
        level_shift = self.level_shift + 0 * image_shift
        shift = ops.stack((image_shift, level_shift, image_shift, level_shift), -1)
        # The operator sorts by score but, on CPU, does not tell the order; rows that are in order already, and whose
        # scores are their ranks and so never equal, come back as they went in.
        rows = n * score.shape[1]
        order = ops.topk(score.reshape(-1), rows)[1]
        ranks = Tensor(np.arange(rows, 0, -1, dtype=np.float32)[:, None])
        _, _, keep = self.nms(ops.concat((ops.gather((boxes + shift).reshape(-1, 4), order, 0), ranks), 1))
        keep = ops.scatter_nd(ops.expand_dims(order, -1), keep.astype("float32"), (rows,)).reshape(n, -1)
        score = ops.where(keep > 0, score, Tensor(np.float32(DROPPED)))
        best, chosen = ops.topk(score, self.max_num)
        return take(boxes, chosen), best > DROPPED
