"""What an edge does once its features are delivered: it waits for the job's end."""

from __future__ import annotations

import logging
import time
from typing import Callable

from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError
from cross_silo.protocol.client import AggregationClient, ServerUnreachable
from cross_silo.training.heartbeat import Heartbeat

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
ASK_SECONDS = 10.0
"""From one question to the next; the heartbeats tell of the end, too, and keep the lease meanwhile."""
PATIENCE = 600.0
"""Seconds without an answer after which the server is given up."""


def await_end(
    client: AggregationClient,
    beats: Heartbeat,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Return the state in which the job ended: finished, failed or stopped.

    A server that is gone for a while is waited for as any call of the client does.

    Raises:
        UserError: the lease was lost, or the server is gone.
    """
    asked = heard = clock()
    while beats.state not in ENDED:
        if beats.lost is not None:
            raise UserError(beats.lost)
        if clock() - asked >= ASK_SECONDS:
            asked = clock()
            try:
                state = client.job().state
            except ServerUnreachable as error:
                if clock() - heard > PATIENCE:
                    raise UserError(f"{error}; the features are delivered: the job needs nothing more of it") from None
                log.warning("%s", error)
            else:
                heard = clock()
                if state in ENDED:
                    return state
        sleep(POLL_SECONDS)
    return beats.state
