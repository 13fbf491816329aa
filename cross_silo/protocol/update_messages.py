"""A worker's updates as messages: laid out once, filled anew for each round."""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np

from cross_silo.protocol.layout import ModelMessage

TABLE = "RequestUpdateModel"
WHOLE = -1
"""In place of a server's index: a message with all tensors."""


class UpdateMessages:
    """One message for each server, and one for all; for calls with different indices at the same time."""

    def __init__(self, silo: str) -> None:
        self._fixed = {"fl_name": "cross_silo", "fl_id": silo}
        self._messages: Dict[int, ModelMessage] = {}

    def filled(
        self, index: int, weights: Mapping[str, np.ndarray], data_size: int, values: Mapping[str, Any]
    ) -> memoryview:
        """Return ``weights`` times ``data_size`` as the message of server ``index``.

        Args:
            values: iteration, upload_loss, timestamp.
        """
        sizes = {name: array.size for name, array in weights.items()}
        message = self._messages.get(index)
        if message is None or {name: len(view) for name, view in message.tensors.items()} != sizes:
            self.forget(index)  # the old one may go before the new one comes
            message = self._messages[index] = ModelMessage(TABLE, sizes, {**self._fixed, **values})
        for name, value in values.items():
            message.set(name, value)
        factor = np.float32(data_size)
        for name, out in message.tensors.items():
            np.multiply(weights[name].reshape(-1), factor, out=out, casting="same_kind")
        return message.buffer

    def forget(self, index: int) -> None:
        """Lay the message out anew the next time."""
        self._messages.pop(index, None)
