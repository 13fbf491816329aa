"""A fixed number of objects and background drawn from each image's candidates (Ren et al. 2015, section 3.1.3)."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, ops


def take(values: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, K, ...) of ``values`` (N, M, ...) that ``index``, int32 (N, K), names in each image."""
    n, m = values.shape[:2]
    offset = Tensor(np.arange(n, dtype=np.int32)[:, None] * m)
    rows = ops.gather(values.reshape((n * m, *values.shape[2:])), (index + offset).reshape(-1), 0)
    return rows.reshape((n, index.shape[1], *values.shape[2:]))


def sample(
    positive: Tensor, negative: Tensor, noise: Tensor, most_positive: int, total: int
) -> Tuple[Tensor, Tensor, Tensor]:
    """Draw candidates; the largest ``noise`` wins, so that uniform noise draws uniformly.

    Args:
        positive, negative: bool (N, K); never both.
        noise: float32 (N, K), in [0, 1).
        most_positive: at most so many positives an image, at most ``total``.
        total: slots an image, at most K; negatives fill what the positives leave.

    Returns:
        index: int32 (N, total), positives first, then negatives, then slots without a meaning.
        is_positive, is_used: bool (N, total).
    """
    none = Tensor(np.float32(-1.0))
    best_positive, positive_index = ops.topk(ops.where(positive, noise, none), most_positive)
    best_negative, negative_index = ops.topk(ops.where(negative, noise, none), total)
    positives = (best_positive >= 0).astype("int32").sum(axis=1, keepdims=True)  # (N, 1)
    negatives = (best_negative >= 0).astype("int32").sum(axis=1, keepdims=True)
    slot = Tensor(np.arange(total, dtype=np.int32)[None])
    is_positive = slot < positives
    source = slot + ops.where(is_positive, Tensor(np.int32(0)), most_positive - positives)
    index = ops.gather_elements(ops.concat((positive_index, negative_index), 1), 1, source)
    return index.astype("int32"), is_positive, slot < positives + negatives
