"""The layers before the cut as a function on arrays, in inference mode; nothing else of the network is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np

from cross_silo.checkpoint.network import federated_tensors
from cross_silo.errors import UserError
from cross_silo.mistnet.spec import Cut

if TYPE_CHECKING:
    from cross_silo.detector import Cuttable
    from cross_silo.mistnet.feature_pass import Extract


def check_trained(tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse an extractor that no training has touched: the server's training never reaches it.

    Raises:
        UserError: every batch norm in it still has the statistics that it is born with.
    """
    born = {"moving_mean": 0.0, "moving_variance": 1.0}
    statistics = [(tensors[name], born[kind]) for name in tensors for kind in born if name.endswith(f".{kind}")]
    if statistics and all((values == value).all() for values, value in statistics):
        raise UserError(f"{where}: the layers before the cut are newly initialised; expected a pre-trained extractor")


def build_extract(
    detector: "Cuttable", cut: Cut, tensors: Mapping[str, np.ndarray], batch_size: int, height: int, width: int
) -> "Extract":
    """Return the function from images to activations; it compiles now. MindSpore must have been started.

    Args:
        tensors: of the layers before the cut, by name.
        batch_size: images that it takes at once.
        height, width: pixels of an image.

    Raises:
        UserError: they are not those of this detector.
    """
    from mindspore import Tensor

    network = detector.edge_network(cut)
    places = federated_tensors(network)
    for name, place in places.items():
        found = tensors[name].shape if name in tensors else "nothing"
        if found != tuple(place.shape):
            raise UserError(f"the extractor's tensor {name}: found {found}, expected shape {tuple(place.shape)}")
    unknown = sorted(set(tensors) - set(places))
    if unknown:
        raise UserError(f"the extractor has tensor {unknown[0]!r}, which is not before cut {cut}")
    for name, place in places.items():
        place.set_data(Tensor(np.asarray(tensors[name], np.float32)))
    network.set_train(False)

    def extract(images: np.ndarray) -> np.ndarray:
        return network(Tensor(images)).asnumpy()

    extract(np.zeros((batch_size, height, width, 3), np.uint8))
    return extract
