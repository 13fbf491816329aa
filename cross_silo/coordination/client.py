"""How this project talks to Redis: text replies, bounded waits, a few tries, a password and TLS where they are set."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any, Dict

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from cross_silo.config.federated import DistributedCache
from cross_silo.errors import UserError
from cross_silo.security.secret_file import check_secret

PASSWORD = "CROSS_SILO_REDIS_PASSWORD"
"""Environment variable with the password of Redis, or of the ACL user where one is set."""


def password() -> str:
    """Return the password of Redis; empty: none. Raises UserError where it has more than one line."""
    found = os.environ.get(PASSWORD, "")
    if not found.isprintable():
        raise UserError(f"environment variable {PASSWORD}: expected one line of printable characters")
    return found


def make_client(host: str, port: int, tries: int = 3, settings: DistributedCache = DistributedCache()) -> redis.Redis:  # noqa: B008
    """Return a client with text replies that gives up on a silent or absent server within seconds.

    It is thread-safe, and a later command connects anew.

    Args:
        settings: ACL user and TLS.

    Raises:
        UserError: the password is no line, or the private key for TLS is missing or others may read it.
    """
    return redis.Redis(
        host=host,
        port=port,
        username=settings.user or None,
        password=password() or None,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=3,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), tries),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
        **_tls(settings),
    )


def _tls(settings: DistributedCache) -> Dict[str, Any]:
    if not settings.cacert_filename:
        return {}
    if settings.private_key_filename:
        check_secret(Path(settings.private_key_filename), "distributed_cache.private_key_filename")
    return {
        "ssl": True,
        "ssl_ca_certs": settings.cacert_filename,
        "ssl_certfile": settings.cert_filename or None,
        "ssl_keyfile": settings.private_key_filename or None,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
