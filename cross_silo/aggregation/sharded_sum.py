"""The sum of a round's updates over several servers: each sums its tensors, the first one brings the means together."""

from __future__ import annotations

import secrets
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from cross_silo.aggregation.averaging import NonFiniteAverageError, Place, RoundSum
from cross_silo.aggregation.models import DRAFT_SECONDS, ModelStore
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.rules import make_sum
from cross_silo.aggregation.shard_link import ServerLostError
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.update import CheckedUpdate, Tensors
from cross_silo.config.aggregation import Aggregation
from cross_silo.protocol.layout import ModelMessage

EXPECTED_FAILURES = (NonFiniteAverageError, ServerLostError, TimeoutError)
"""They fail a round, and their text says why."""


class _OwnPart:
    """The first server's tensors in a whole model."""

    def __init__(self, message: ModelMessage, names: Sequence[str]) -> None:
        self.message = message
        self.tensors: Dict[str, np.ndarray] = {name: message.tensors[name] for name in names}


class ShardedSum(RoundSum):
    """Any rule whose tensors are independent of one another; the norm that a rule reads is the whole update's."""

    def __init__(self, settings: Aggregation, place: Place, model: Callable[[], Tensors], shards: Shards) -> None:
        super().__init__(place)
        self._shards = shards
        self._own = make_sum(settings, lambda: _OwnPart(place(), shards.names), model)
        self._silos: List[str] = []

    def add(self, key: Key, update: CheckedUpdate, last_of: Optional[int]) -> None:
        """As the base's; ServerLostError where a server is gone."""
        if key != self._key:
            self._key, self._silos = key, []
        with self._shards.meanwhile("add", key=key, silo=update.silo, norm=update.norm):
            self._own.add(key, update, None)
        self._silos.append(update.silo)
        if last_of is not None:
            self.divide(last_of)

    def divide(self, samples: int) -> None:
        """As the base's; ServerLostError where a server is gone."""
        tag = secrets.token_hex(8)
        with self._shards.meanwhile("prepare", key=self._key, silos=self._silos, samples=samples, tag=tag):
            self._own.divide(samples)
        self.place = self._own.place.message
        self._shards.gather(tag, self.place)
        self.place.tag = tag

    def reset(self) -> None:
        super().reset()
        self._own.reset()


def make_round_sum(settings: Aggregation, models: ModelStore, shards: Optional[Shards]) -> RoundSum:
    """Return the rule that ``settings`` name, for the model in ``models``.

    Args:
        shards: the job's other servers; None: there are none.
    """

    def place() -> ModelMessage:
        return models.draft(DRAFT_SECONDS)

    if shards is None:
        return make_sum(settings, place, lambda: models.tensors)
    return ShardedSum(settings, place, lambda: models.tensors, shards)
