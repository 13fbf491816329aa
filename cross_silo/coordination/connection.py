"""A connection to the job's Redis, embedded where the address is this machine's."""

from __future__ import annotations

import logging
from typing import Optional, Union

import redis

from cross_silo.config.federated import DistributedCache, is_loopback, split_address
from cross_silo.coordination.client import PASSWORD, make_client, password
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.errors import UserError

log = logging.getLogger(__name__)


def connect(where: Union[str, DistributedCache], *, start_embedded: bool, user: Optional[str] = None) -> redis.Redis:
    """Return a client of the Redis at ``where``, which answered.

    Args:
        where: its settings; or host:port, where neither an ACL user nor TLS is needed.
        start_embedded: start one where ``address`` is loopback and nothing listens there.
        user: role that needs Redis until this process ends; an embedded one stops with its last user.
            None: a visitor, which does not keep it running.

    Raises:
        UserError: no Redis answers there, or it does not let this user in.
    """
    settings = where if isinstance(where, DistributedCache) else DistributedCache(address=where)
    address = settings.address
    host, port = split_address(address, "distributed_cache.address")
    embedded = EmbeddedRedis(host, port) if is_loopback(host) and not settings.cacert_filename else None
    if embedded is not None and start_embedded:
        embedded.ensure(user)
    elif embedded is not None and user:
        embedded.register(user)
    if not is_loopback(host):
        _warn_of(settings)
    client = make_client(host, port, settings=settings)
    problem = probe(client, address)
    if problem is not None and embedded is not None and start_embedded and embedded.ensure(user):
        problem = probe(client, address)  # the one that listened a moment ago was on its way out
    if problem is not None:
        client.close()
        raise UserError(problem)
    return client


def _warn_of(settings: DistributedCache) -> None:
    """Say what a Redis that other machines reach is open to."""
    if not password() and not settings.cert_filename:
        log.warning("Redis at %s is asked without a password: who reaches it, controls the job", settings.address)
    if not settings.cacert_filename:
        log.warning("Redis at %s is asked without TLS (distributed_cache.cacert_filename)", settings.address)


def probe(client: redis.Redis, address: str) -> Optional[str]:
    """Return what is wrong with the Redis at ``address``; None if it answers."""
    try:
        client.ping()
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        given = "with" if password() else "without"
        return (
            f"Redis at {address} does not let this process in {given} the password of {PASSWORD} "
            f"and the user of distributed_cache.user: {error}"
        )
    except redis.TimeoutError:
        return f"{address} accepts connections but does not answer as Redis does (distributed_cache.address)"
    except redis.ConnectionError as error:
        cause = error.__cause__ or error.__context__ or error
        reason = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or str(cause)
        return f"no Redis answers at {address} (distributed_cache.address): {reason}"
    except redis.RedisError as error:
        return f"{address} does not answer as Redis does (distributed_cache.address): {error}"
    return None
