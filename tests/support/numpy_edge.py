"""A worker process of a MistNet job whose extractor is numpy's; ``FAULT`` may have it killed on the way."""

import numpy as np

from cross_silo import runtime
from cross_silo.errors import run_main
from cross_silo.mistnet import edge
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.writer import FeatureWriter
from tests.support.faults import around


def build(cut, tensors, model):
    """Each channel a block's mean brightness, by a factor of its own that the tensors give."""
    runtime.prepare()
    import mindspore.dataset  # noqa: F401
    import mindspore.mindrecord  # noqa: F401

    channels, height, width = cut.shape
    [weight] = (tensors[name] for name in sorted(tensors))
    factors = np.resize(weight, channels).astype(np.float32) - 1

    def extract(images):
        n, h, w, _ = images.shape
        blocks = images.reshape(n, height, h // height, width, w // width, 3).mean((2, 4, 5)) / 255 - 0.5
        return (blocks[:, None] * factors.reshape(1, -1, 1, 1)).astype(np.float32)

    return extract


if __name__ == "__main__":
    around(FeatureWriter, "add", after="add")
    around(FeatureWriter, "finish", after="made")
    around(FeatureClient, "chunk", after="chunk")
    run_main(lambda: edge.main(build=build))
