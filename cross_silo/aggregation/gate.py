"""What an update must be to enter a sum: this model's tensors, finite, and not too far from the global model."""

from __future__ import annotations

from typing import Dict, Mapping

from cross_silo.aggregation.job import Job
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.norms import NormLimit, update_norm
from cross_silo.aggregation.refusals import NORM
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.aggregation.uploads import InvalidUpdateError, check_update
from cross_silo.checkpoint.info import TRAINABLE
from cross_silo.protocol.messages import Message


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
        self, message: Message, finite: bool, samples: int, stats: Mapping[str, float], size: int
    ) -> CheckedUpdate:
        """Return the update in a RequestUpdateModel of ``size`` bytes.

        Args:
            finite: its numbers need no further look.
            samples: those that the silo joined the round with.
            stats: what the worker tells of its training.

        Raises:
            InvalidUpdateError: it is not one of this model, not finite, or too far away.
        """
        tensors = check_update(message, self._sizes, finite)
        told: Dict[str, float] = dict(stats)
        norm = None
        if self._measures:
            norm = told["update_norm"] = update_norm(tensors, samples, self._models.tensors, self._trainable)
            problem = self._limit.problem(norm)
            if problem:
                raise InvalidUpdateError(problem, NORM)
        return CheckedUpdate(tensors, samples, message["upload_loss"], told, size, norm)
