"""How this project talks to Redis: text replies, bounded waits, a few tries."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry


def make_client(host: str, port: int, tries: int = 3) -> redis.Redis:
    """Return a client with text replies that gives up on a silent or absent server within seconds.

    It is thread-safe, and a later command connects anew.
    """
    return redis.Redis(
        host=host,
        port=port,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=3,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), tries),
        retry_on_error=[redis.ConnectionError, redis.TimeoutError],
    )
