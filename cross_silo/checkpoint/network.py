"""Between a MindSpore network and the named float32 arrays that a checkpoint or a round carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, Tuple

import numpy as np

from cross_silo.checkpoint.info import STATISTIC, TRAINABLE, CheckpointInfo, model_fingerprint
from cross_silo.errors import UserError

if TYPE_CHECKING:
    from mindspore import Parameter, nn


def federated_tensors(network: "nn.Cell") -> Dict[str, "Parameter"]:
    """Return the network's float32 tensors by name: what silos exchange. Batch-norm statistics are among them."""
    import mindspore

    return {tensor.name: tensor for tensor in network.get_parameters() if tensor.dtype == mindspore.float32}


def tensor_kinds(tensors: Mapping[str, "Parameter"]) -> Dict[str, str]:
    """Return each tensor's kind: trainable, or statistic where no gradient reaches it."""
    return {name: TRAINABLE if tensor.requires_grad else STATISTIC for name, tensor in tensors.items()}


def tensor_shapes(tensors: Mapping[str, "Parameter"]) -> Dict[str, Tuple[int, ...]]:
    """Return each tensor's shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def network_fingerprint(network: "nn.Cell") -> str:
    """Return the fingerprint of checkpoints that ``network`` can load."""
    tensors = federated_tensors(network)
    return model_fingerprint(tensor_shapes(tensors), tensor_kinds(tensors))


def load_weights(network: "nn.Cell", weights: Mapping[str, np.ndarray], info: CheckpointInfo, where: str) -> None:
    """Set the network's tensors from a checkpoint's.

    Args:
        where: the checkpoint, for error messages.

    Raises:
        UserError: the checkpoint is of another model, or lacks a tensor.
    """
    import mindspore

    tensors = federated_tensors(network)
    for name, tensor in tensors.items():
        if name not in weights:
            raise UserError(f"{where} is of another model: it has no tensor {name!r}; expected shape {tensor.shape}")
        if weights[name].shape != tensor.shape:
            raise UserError(
                f"{where} is of another model: tensor {name!r} has shape {weights[name].shape}, expected {tensor.shape}"
            )
    if info.fingerprint and info.fingerprint != network_fingerprint(network):
        raise UserError(f"{where} is of another model: fingerprint {info.fingerprint[:12]} differs from the network's")
    for name, tensor in tensors.items():
        tensor.set_data(mindspore.Tensor(np.asarray(weights[name], np.float32)))
