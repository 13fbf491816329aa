"""Class and box losses over sampled candidates (Ren et al. 2015, equation 1; Girshick 2015, Fast R-CNN, equation 3)."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, ops


def count(used: Tensor) -> Tensor:
    """Return how many of ``used`` (bool) are True, at least 1: a batch without any has a loss of 0."""
    return ops.maximum(used.astype("float32").sum(), Tensor(np.float32(1.0)))


def objectness_loss(logits: Tensor, is_positive: Tensor, is_used: Tensor) -> Tensor:
    """Return the mean binary cross entropy of ``logits`` where ``is_used``; all (N, T)."""
    target = is_positive.astype("float32")
    # log(1 + exp(x)) without overflow
    loss = ops.relu(logits) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
    return (loss * is_used.astype("float32")).sum() / count(is_used)


def class_loss(logits: Tensor, labels: Tensor, is_used: Tensor) -> Tensor:
    """Return the mean cross entropy of ``logits`` (R, classes) with ``labels``, int32 (R,), where ``is_used`` (R,)."""
    log_probability = ops.log_softmax(logits, -1)
    loss = -ops.gather_elements(log_probability, 1, ops.expand_dims(labels, 1))[:, 0]
    return (loss * is_used.astype("float32")).sum() / count(is_used)


def box_loss(deltas: Tensor, targets: Tensor, is_positive: Tensor, normaliser: Tensor, beta: float) -> Tensor:
    """Return the sum of smooth L1 over deltas (..., 4) where ``is_positive`` (...), over ``normaliser``.

    The normaliser counts all candidates sampled, not the positives alone: an object weighs the same in each batch.
    """
    mask = ops.expand_dims(is_positive, -1)
    difference = ops.abs(deltas - ops.where(mask, targets, deltas))
    loss = difference
    if beta > 0:
        loss = ops.where(difference < beta, difference * difference * (0.5 / beta), difference - 0.5 * beta)
    return loss.sum() / normaliser
