"""What a role talks to: its own address, the server, Redis; and whose clock is wrong."""

from __future__ import annotations

import secrets
import time
from typing import Any, List

import redis

from cross_silo.config.federated import is_loopback, split_address
from cross_silo.coordination.client import make_client
from cross_silo.coordination.connection import probe
from cross_silo.coordination.embedded import find_binary
from cross_silo.coordination.store import ENDED, PREFIX
from cross_silo.errors import UserError
from cross_silo.launch.server_addresses import listening_at
from cross_silo.launch.start import check_free
from cross_silo.preflight.check import ERROR, OK, SKIPPED, WARNING, Check
from cross_silo.preflight.plan import WORKER, Plan

SKEW_WARNING, SKEW_ERROR = 5.0, 300.0
"""Seconds; a clock that is further off makes certificates that are valid look as if they were not."""


def check_port(plan: Plan) -> Check:
    """Look whether the role's own address is free; a worker's server need not be there yet."""
    if plan.role == WORKER:
        return _server(plan)
    try:
        addresses = listening_at(plan.address, plan.servers)
        for address in addresses:
            check_free(address, plan.flag)
    except UserError as error:
        return Check("port", ERROR, str(error))
    return Check("port", OK, f"{', '.join(addresses)} {'is' if len(addresses) == 1 else 'are'} free")


def _server(plan: Plan) -> Check:
    answer = plan.answer
    if not answer.answers:
        found = f"nobody answers at {plan.address} yet ({answer.problem}): a worker waits 30 s for the server"
        return Check("server", WARNING, found)
    if answer.problem:
        return Check("server", ERROR, f"{plan.address}: {answer.problem}")
    name, state = answer.job.get("fl_name"), answer.job.get("state")
    if name != plan.config.fl_name:
        return Check("server", ERROR, f"{plan.address} serves job {name!r}, expected fl_name {plan.config.fl_name!r}")
    if state in ENDED:
        return Check("server", ERROR, f"job {name!r} at {plan.address} is {state}; expected one that runs")
    return Check("server", OK, f"{plan.address} serves job {name!r}: {state}, round {answer.job.get('iteration')}")


def check_redis(plan: Plan) -> List[Check]:
    """Look whether Redis answers, lets this role in and takes what it writes, and at its clock."""
    cache = plan.config.distributed_cache
    host, port = split_address(cache.address, "distributed_cache.address")
    try:
        client = make_client(host, port, tries=1, settings=cache)
        problem = probe(client, cache.address)
        if problem is not None and is_loopback(host) and not cache.cacert_filename and "no Redis answers" in problem:
            return [Check("Redis", OK, f"none at {cache.address} yet: {find_binary()} will be started there")]
        if problem is not None:
            return [Check("Redis", ERROR, problem)]
        return _use(client, plan)
    except UserError as error:
        return [Check("Redis", ERROR, str(error))]


def _use(client: "redis.Redis[Any]", plan: Plan) -> List[Check]:
    address = plan.config.distributed_cache.address
    key = f"{PREFIX}:{plan.config.fl_name}:preflight:{secrets.token_hex(4)}"
    try:
        client.set(key, "1", px=1000)
        client.delete(key)
    except redis.RedisError as error:
        return [Check("Redis", ERROR, f"{address} does not take what this role writes ({PREFIX}:*): {error}")]
    try:
        seconds, microseconds = client.time()
    except redis.RedisError:
        return [Check("Redis", OK, f"{address} answers and takes what is written")]
    found = Check("Redis", OK, f"{address} answers and takes what is written")
    return [found, clock(time.time() - seconds - microseconds / 1e6, f"Redis at {address}")]


def check_clock(plan: Plan) -> Check:
    """Compare a worker's clock with the server's Date header, which has whole seconds."""
    skew = plan.answer.skew
    if skew is None:
        return Check("clock", SKIPPED, "the server does not answer yet")
    return clock(skew if abs(skew) > 1 else 0.0, f"the server at {plan.address}")


def clock(skew: float, other: str) -> Check:
    """Return what a difference to the clock of ``other`` means."""
    result = ERROR if abs(skew) > SKEW_ERROR else WARNING if abs(skew) > SKEW_WARNING else OK
    expected = "" if result == OK else f"; expected at most {SKEW_WARNING:g} s: synchronise both (NTP)"
    way = "ahead of" if skew >= 0 else "behind"
    return Check("clock", result, f"{abs(skew):.1f} s {way} {other}{expected}")
