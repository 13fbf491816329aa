"""What an update must be to enter a sum: this model's tensors, finite, and not too far from the global model."""

from __future__ import annotations

import math
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Sequence

from cross_silo.aggregation.job import Job
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.norms import NormLimit, squared_norm
from cross_silo.aggregation.refusals import NORM
from cross_silo.aggregation.update import CheckedUpdate, Tensors
from cross_silo.aggregation.uploads import InvalidUpdateError, check_update
from cross_silo.checkpoint.info import TRAINABLE
from cross_silo.protocol.messages import Message


class ShardCheck(NamedTuple):
    """How an update is checked of which several servers have tensors."""

    names: Sequence[str]
    """This server's."""
    whole: bool
    """The message has all tensors."""
    elsewhere: Callable[[Tensors], float]
    """Given the message's tensors, waits for the other servers' and returns the sum of squares of their part of the
    update's norm; InvalidUpdateError where one refuses."""


class Gate:
    """Checks updates of a job. Thread-safe."""

    def __init__(self, job: Job, models: ModelStore) -> None:
        """Args: ``models`` has the global model that updates are measured from."""
        settings = job.config.aggregation
        self._sizes = job.sizes
        self._trainable = [name for name, kind in job.info.kinds.items() if kind == TRAINABLE]
        self._models = models
        self._measures = settings.measures_norms
        self._limit = NormLimit(
            settings.max_update_norm, settings.max_update_norm_factor, job.config.participation.most
        )

    def check(
        self,
        message: Message,
        finite: bool,
        samples: int,
        stats: Mapping[str, float],
        size: int,
        shard: Optional[ShardCheck] = None,
    ) -> CheckedUpdate:
        """Return the update in a RequestUpdateModel of ``size`` bytes.

        Args:
            finite: its numbers need no further look.
            samples: those that the silo joined the round with.
            stats: what the worker tells of its training.
            shard: where the job has several servers: which tensors are this one's.

        Raises:
            InvalidUpdateError: it is not one of this model, not finite, or too far away.
        """
        expected = self._sizes if shard is None or shard.whole else {name: self._sizes[name] for name in shard.names}
        tensors = check_update(message, expected, finite)
        told: Dict[str, float] = dict(stats)
        squares = shard.elsewhere(tensors) if shard is not None else 0.0
        if shard is not None:
            tensors = {name: tensors[name] for name in shard.names}
        norm = None
        if self._measures:
            trainable = [name for name in self._trainable if name in tensors]
            squares += squared_norm(tensors, samples, self._models.tensors, trainable)
            norm = told["update_norm"] = math.sqrt(squares)
            problem = self._limit.problem(norm)
            if problem:
                raise InvalidUpdateError(problem, NORM)
        return CheckedUpdate(tensors, samples, message["upload_loss"], told, size, norm)
