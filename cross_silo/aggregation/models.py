"""The model of the last good round, ready to be sent, and the one being made beside it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from cross_silo.protocol.layout import ModelMessage
from cross_silo.protocol.schema import SUCCEED

TABLE = "ResponseGetModel"
MAX_MESSAGES = 3
"""The good model, the one being made, and an old one that somebody still reads."""
DRAFT_SECONDS = 60.0
"""How long a round waits for slow readers of an old model."""


class Reading:
    """A model that is being sent; it stays as it is until :meth:`close`."""

    def __init__(self, store: "ModelStore", message: ModelMessage, round: int) -> None:
        """Made by :meth:`ModelStore.read`."""
        self._store = store
        self._message = message
        self.round = round
        """The round that made it."""

    @property
    def buffer(self) -> memoryview:
        """The reply to getModel."""
        return self._message.buffer

    @property
    def tag(self) -> str:
        """What the shards of this model have in common."""
        return self._message.tag

    def part(self, names: Sequence[str]) -> Tuple[bytes, memoryview]:
        """A reply to getModel with some of the tensors, which lie side by side: its head, and what follows it."""
        return self._message.part(names, reply_values(self.round))

    def region(self, names: Sequence[str]) -> memoryview:
        """Return the bytes of tensors that lie side by side."""
        return self._message.region(names)

    def close(self) -> None:
        """Let the buffer be used again."""
        self._store.close(self._message)


def reply_values(round: int) -> Dict[str, Any]:
    """Return the fields of the reply to getModel with the model of ``round``."""
    return {"retcode": SUCCEED, "reason": "", "iteration": round + 1, "timestamp": f"{int(time.time() * 1000):013d}"}


@dataclass(frozen=True)
class ModelAnswer:
    """What a client that asks for a model is told."""

    verdict: str
    reason: str = ""
    reading: Optional[Reading] = None
    settle: Optional[Callable[[], bool]] = None
    """Where the model's checkpoint is still being written: waits for it; False: the round failed after all."""
    status: Mapping[str, str] = field(default_factory=dict)
    """Headers that hold once the answer is settled."""


class ModelStore:
    """Holds whole getModel replies; a new model is averaged into one that nobody reads."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        """Args: ``sizes`` are the elements of each tensor, in order."""
        self.sizes = dict(sizes)
        self._changed = threading.Condition()
        self._messages: List[ModelMessage] = [self._new()]
        self._readers: Dict[int, int] = {}
        self._current = self._messages[0]
        self._round = 0

    def _new(self) -> ModelMessage:
        return ModelMessage(TABLE, self.sizes, reply_values(0))

    def load(self, weights: Mapping[str, np.ndarray], round: int) -> None:
        """Take the model that a job begins with; tensors of any shape."""
        for name, out in self._current.tensors.items():
            out[:] = weights[name].reshape(-1)
        self.renumber(round)

    def renumber(self, round: int) -> None:
        """Call the good model that of ``round``."""
        self.stamp(self._current, round)
        self.publish(self._current, round)

    @property
    def message(self) -> ModelMessage:
        """The good model."""
        return self._current

    @property
    def tensors(self) -> Dict[str, np.ndarray]:
        """The good model's tensors: flat float32 views."""
        return self._current.tensors

    @property
    def round(self) -> int:
        """The good round that made it."""
        return self._round

    @property
    def message_bytes(self) -> int:
        """Bytes of the reply."""
        return len(self._current.buffer)

    def read(self) -> Reading:
        """Begin to read the good model."""
        with self._changed:
            return self._reading(self._current, self._round)

    def read_draft(self, message: ModelMessage, round: int) -> Reading:
        """Begin to read a model that is complete and stamped, but not the good one yet."""
        with self._changed:
            return self._reading(message, round)

    def _reading(self, message: ModelMessage, round: int) -> Reading:
        self._readers[id(message)] = self._readers.get(id(message), 0) + 1
        return Reading(self, message, round)

    def close(self, message: ModelMessage) -> None:
        """End one reading."""
        with self._changed:
            self._readers[id(message)] -= 1
            self._changed.notify_all()

    def draft(self, timeout: float) -> ModelMessage:
        """Return a message to make the next model in: neither the good one nor one that somebody reads.

        Raises:
            TimeoutError: readers hold all others for so long.
        """
        with self._changed:
            if not self._changed.wait_for(self._has_free, timeout):
                raise TimeoutError(f"old models have been read for more than {timeout:g} s")
            for message in self._messages:
                if message is not self._current and not self._readers.get(id(message)):
                    return message
            self._messages.append(self._new())
            return self._messages[-1]

    def _has_free(self) -> bool:
        busy = sum(message is self._current or self._readers.get(id(message), 0) > 0 for message in self._messages)
        return busy < MAX_MESSAGES

    @staticmethod
    def stamp(message: ModelMessage, round: int) -> None:
        """Write into ``message`` that it is the model of round ``round``."""
        values = reply_values(round)
        message.set("iteration", values["iteration"])
        message.set("timestamp", values["timestamp"])

    def publish(self, message: ModelMessage, round: int) -> None:
        """Make a stamped ``message`` the good model, of round ``round``."""
        with self._changed:
            self._current, self._round = message, round
