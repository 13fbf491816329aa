"""Where a status is read: from the job's Redis, or over HTTP from its scheduler or server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Callable, Optional

import redis

from cross_silo.config.auth import OPERATOR
from cross_silo.config.federated import DistributedCache, FederatedConfig, split_address
from cross_silo.coordination import JobStore, connect, job_names
from cross_silo.errors import UserError
from cross_silo.protocol.access import Credentials, credentials
from cross_silo.protocol.connection import ReceiveBuffer, TransportError, exchange
from cross_silo.report.state_routes import STATUS
from cross_silo.report.status import Status, read_status

HTTP_SECONDS = 10.0


def over_http(address: str, config: Optional[FederatedConfig]) -> Callable[[], Status]:
    """Return what asks the scheduler or server at ``address``.

    Args:
        config: says how to show who asks; None: they are not asked who they are.

    Raises:
        UserError: the address is none, or the operator's certificate or token is missing.
    """
    host, port = split_address(address, "--address")
    shown = credentials(config, OPERATOR, OPERATOR) if config is not None else Credentials()

    def read() -> Status:
        try:
            buffer = ReceiveBuffer()
            reply = exchange(host, port, STATUS, None, shown.headers(), HTTP_SECONDS, buffer, shown.context)
        except TransportError as error:
            raise UserError(f"--address {address}: nobody answers: {error}") from None
        try:
            content = json.loads(bytes(reply.body))
        except ValueError:
            content = None
        if reply.status != 200 or not isinstance(content, dict):
            told = content.get("error") if isinstance(content, dict) else None
            raise UserError(f"--address {address}: {told or f'no status (HTTP {reply.status})'}")
        return content

    return read


def from_redis(address: str, fl_name: str, settings: DistributedCache) -> Callable[[], Status]:
    """Return what reads the store.

    Args:
        fl_name: the job; empty: the only one there.
        settings: ACL user and TLS of Redis.

    Raises:
        UserError: no Redis answers there, it has no job, or several and none is named.
    """
    client = connect(replace(settings, address=address), start_embedded=False)
    try:
        names = [fl_name] if fl_name else [name for name in job_names(client) if JobStore(client, name).job()]
    except redis.RedisError as error:
        raise UserError(f"Redis at {address}: {error}") from None
    if not names:
        raise UserError(f"Redis at {address} has no record of a job: none has begun in the last 5 minutes")
    if len(names) > 1:
        raise UserError(f"Redis at {address} has several jobs: {', '.join(names)}; expected --fl_name with one of them")

    def read() -> Status:
        try:
            return read_status(JobStore(client, names[0]), names[0])
        except redis.RedisError as error:
            raise UserError(f"Redis at {address}: {error}") from None

    return read
