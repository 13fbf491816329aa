"""A connection to the job's Redis, embedded where the address is this machine's."""

from __future__ import annotations

from typing import Optional

import redis

from cross_silo.config.federated import is_loopback, split_address
from cross_silo.coordination.client import make_client
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.errors import UserError


def connect(address: str, *, start_embedded: bool, user: Optional[str] = None) -> redis.Redis:
    """Return a client of the Redis at ``address`` (host:port), which answered.

    Args:
        start_embedded: start one where ``address`` is loopback and nothing listens there.
        user: role that needs Redis until this process ends; an embedded one stops with its last user.
            None: a visitor, which does not keep it running.

    Raises:
        UserError: no Redis answers there.
    """
    host, port = split_address(address, "distributed_cache.address")
    embedded = EmbeddedRedis(host, port) if is_loopback(host) else None
    if embedded is not None and start_embedded:
        embedded.ensure(user)
    elif embedded is not None and user:
        embedded.register(user)
    client = make_client(host, port)
    problem = probe(client, address)
    if problem is not None and embedded is not None and start_embedded and embedded.ensure(user):
        problem = probe(client, address)  # the one that listened a moment ago was on its way out
    if problem is not None:
        client.close()
        raise UserError(problem)
    return client


def probe(client: redis.Redis, address: str) -> Optional[str]:
    """Return what is wrong with the Redis at ``address``; None if it answers."""
    try:
        client.ping()
    except redis.AuthenticationError:
        return f"Redis at {address} wants a password; expected one without"
    except redis.TimeoutError:
        return f"{address} accepts connections but does not answer as Redis does (distributed_cache.address)"
    except redis.ConnectionError as error:
        cause = error.__cause__ or error.__context__ or error
        reason = getattr(cause, "strerror", None) or str(cause)
        return f"no Redis answers at {address} (distributed_cache.address): {reason}"
    except redis.RedisError as error:
        return f"{address} does not answer as Redis does (distributed_cache.address): {error}"
    return None
