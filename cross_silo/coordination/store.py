"""What Redis holds of one job; no other code touches a key.

All keys begin with ``cross_silo:{fl_name}:``. The job's own are renewed by its live processes (``touch``) and
expire ``ttl`` seconds after the last renewal; a member's and a lease's live as long as their owner renews them.
What must happen at once is one Lua script or transaction.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import redis

from cross_silo.coordination import scripts

PREFIX = "cross_silo"
ENDED = ("finished", "failed", "stopped")
"""States that a job does not leave."""
ROLES = ("scheduler", "server", "evaluator", "feature_trainer")
"""Roles of members."""
COMMANDS = ("enable", "disable", "new_instance", "stop", "finish")
JOB_KEYS = ("job", "requests", "rounds", "evaluations", "silo_evaluations", "seen")
Scalar = Union[str, int, float]


def job_names(client: redis.Redis) -> List[str]:
    """Return the names of all jobs of which this Redis holds anything."""
    return sorted({key.split(":")[1] for key in client.scan_iter(f"{PREFIX}:*:*", count=1000)})


class JobStore:
    """The record of one job in Redis: its state, requests to it, live members, leases, rounds and evaluations."""

    def __init__(self, client: redis.Redis, fl_name: str, ttl: float = 300.0) -> None:
        """Take a ``client`` that decodes replies to text (``connect`` gives one).

        Args:
            ttl: seconds that the job's keys outlive their last renewal.
        """
        self._client = client
        self._prefix = f"{PREFIX}:{fl_name}"
        self._ttl = int(ttl * 1000)
        self._end = client.register_script(scripts.END)
        self._update = client.register_script(scripts.UPDATE)
        self._add_round = client.register_script(scripts.ADD_ROUND)
        self._members = client.register_script(scripts.LIST_MEMBERS)
        self._acquire = client.register_script(scripts.ACQUIRE_LEASE)
        self._renew = client.register_script(scripts.RENEW_LEASE)
        self._release = client.register_script(scripts.RELEASE_LEASE)
        self._leases = client.register_script(scripts.LIST_LEASES)

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    # the job

    def begin(self, fields: Mapping[str, Scalar]) -> None:
        """Replace the job's fields, state "running" unless given; requests to an earlier server are dropped.

        Rounds and evaluations stay: a restarted server goes on with them (``clear`` drops them).
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(self._key("job"), self._key("requests"))
            pipe.hset(self._key("job"), mapping={"state": "running", "reason": "", **_texts(fields)})
            pipe.pexpire(self._key("job"), self._ttl)
            pipe.execute()

    def update(self, **fields: Scalar) -> bool:
        """Set fields of the job; an ended job keeps its state and reason.

        Returns:
            False, and nothing is set, where Redis has no such job: it expired or Redis was restarted; ``begin`` anew.
        """
        flat = [text for pair in _texts(fields).items() for text in pair]
        return bool(self._update(keys=[self._key("job")], args=[self._ttl, *flat]))

    def job(self) -> Optional[Dict[str, str]]:
        """Return the job's fields, "state" and "reason" among them; None if there is none."""
        return self._client.hgetall(self._key("job")) or None

    def end(self, state: str, reason: str) -> bool:
        """End the job as "finished", "failed" or "stopped". Returns False if it had ended before, or is not there."""
        if state not in ENDED:
            raise ValueError(f"state is {state!r}, expected one of {', '.join(ENDED)}")
        return bool(self._end(keys=[self._key("job")], args=[self._ttl, state, reason]))

    def touch(self) -> None:
        """Renew the job's keys."""
        with self._client.pipeline(transaction=False) as pipe:
            for name in JOB_KEYS:
                pipe.pexpire(self._key(name), self._ttl)
            pipe.execute()

    def clear(self) -> None:
        """Forget the job's fields, requests, rounds and evaluations; live members and leases stay."""
        self._client.delete(*(self._key(name) for name in JOB_KEYS))

    # requests to the server

    def request(self, command: str, payload: Optional[Mapping[str, Any]] = None) -> None:
        """Ask the job's server for one of COMMANDS; "finish": a stop condition is met."""
        if command not in COMMANDS:
            raise ValueError(f"command is {command!r}, expected one of {', '.join(COMMANDS)}")
        self._append("requests", json.dumps([command, dict(payload or {})]))

    def take_requests(self) -> List[Tuple[str, Dict[str, Any]]]:
        """Return the requests since the last call, oldest first; each is delivered once."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.lrange(self._key("requests"), 0, -1)
            pipe.delete(self._key("requests"))
            entries = pipe.execute()[0]
        return [(command, payload) for command, payload in map(json.loads, entries)]

    # live processes of the cloud side

    def beat(self, role: str, node: str, info: Mapping[str, Any], seconds: float = 10.0) -> None:
        """Be a live member in ``role`` for the next ``seconds``."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(self._key("member", role, node), json.dumps(dict(info)), px=int(seconds * 1000))
            pipe.sadd(self._key("members", role), node)
            pipe.pexpire(self._key("members", role), max(self._ttl, int(seconds * 1000)))
            pipe.execute()

    def members(self, role: str) -> Dict[str, Dict[str, Any]]:
        """Return the live members of ``role``: node -> what it told of itself."""
        flat = self._members(keys=[self._key("members", role)], args=[self._key("member", role)])
        return {node: json.loads(info) for node, info in zip(flat[::2], flat[1::2])}

    def leave(self, role: str, node: str) -> None:
        """Be a member no more."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(self._key("member", role, node))
            pipe.srem(self._key("members", role), node)
            pipe.execute()

    def is_live(self) -> bool:
        """Tell whether any process takes part in the job: a member of the cloud side, or a silo's worker."""
        return any(self.members(role) for role in ROLES) or bool(self.leases())

    # leases of silos

    def acquire_lease(
        self, silo: str, worker: str, seconds: float, info: Mapping[str, Any]
    ) -> Tuple[bool, Optional[Dict[str, Any]], float]:
        """Take the lease of ``silo`` for ``worker``, unless another worker holds it; its own is renewed.

        Returns:
            (granted, what the holder told of itself with its "worker", seconds left to the holder); when granted,
            (True, None, seconds).
        """
        granted, holder, told, left = self._acquire(
            keys=self._lease_keys(silo), args=self._lease_arguments(silo, worker, seconds, info)
        )
        if granted:
            return True, None, seconds
        return False, {**json.loads(told), "worker": holder}, left / 1000

    def renew_lease(self, silo: str, worker: str, seconds: float, info: Mapping[str, Any]) -> bool:
        """Renew the lease and what is told of its holder; False if ``worker`` holds it no more."""
        arguments = self._lease_arguments(silo, worker, seconds, info)
        return bool(self._renew(keys=self._lease_keys(silo), args=arguments))

    def release_lease(self, silo: str, worker: str) -> bool:
        """Give the lease back; False if ``worker`` does not hold it."""
        return bool(self._release(keys=self._lease_keys(silo), args=[worker, silo]))

    def leases(self) -> Dict[str, Dict[str, Any]]:
        """Return the live leases: silo -> what its holder told, with "worker" and "seconds_left"."""
        flat = self._leases(keys=[self._key("silos")], args=[self._key("lease")])
        return {
            silo: {**json.loads(told), "worker": worker, "seconds_left": left / 1000}
            for silo, worker, told, left in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4])
        }

    def _lease_keys(self, silo: str) -> List[str]:
        return [self._key("lease", silo), self._key("silos")]

    def _lease_arguments(self, silo: str, worker: str, seconds: float, info: Mapping[str, Any]) -> List[Scalar]:
        milliseconds = int(seconds * 1000)
        return [worker, json.dumps(dict(info)), milliseconds, silo, max(self._ttl, milliseconds)]

    def note_seen(self, silos: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what live silos told, with the time; it is there still when their leases are gone."""
        if silos:
            with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._key("seen"), mapping={silo: json.dumps(dict(told)) for silo, told in silos.items()})
                pipe.pexpire(self._key("seen"), self._ttl)
                pipe.execute()

    def seen(self) -> Dict[str, Dict[str, Any]]:
        """Return what each silo told when it was last seen alive."""
        return {silo: json.loads(told) for silo, told in sorted(self._client.hgetall(self._key("seen")).items())}

    # rounds and evaluations

    def counts(self) -> Tuple[int, int]:
        """Return how many attempts at rounds and how many evaluations there are."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xlen(self._key("rounds"))
            pipe.hlen(self._key("evaluations"))
            rounds, evaluations = pipe.execute()
        return rounds, evaluations

    def add_round(self, record: Mapping[str, Any]) -> None:
        """Append the record of one attempt at a round; a record sent twice in a row is kept once."""
        self._add_round(keys=[self._key("rounds")], args=[self._ttl, json.dumps(dict(record))])

    def rounds(self) -> List[Dict[str, Any]]:
        """Return the records of all attempts, oldest first."""
        return [json.loads(fields["record"]) for _, fields in self._client.xrange(self._key("rounds"))]

    def add_evaluation(self, round: int, metrics: Mapping[str, Any]) -> None:
        """Keep the metrics of the global model after ``round``."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(self._key("evaluations"), str(round), json.dumps(dict(metrics)))
            pipe.pexpire(self._key("evaluations"), self._ttl)
            pipe.execute()

    def evaluations(self) -> Dict[int, Dict[str, Any]]:
        """Return the metrics by round, in order."""
        found = self._client.hgetall(self._key("evaluations"))
        return {number: json.loads(found[str(number)]) for number in sorted(map(int, found))}

    def add_silo_evaluation(self, round: int, silo: str, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of the global model after ``round`` on a silo's own validation set."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(self._key("silo_evaluations"), f"{round}:{silo}", json.dumps(dict(metrics)))
            pipe.pexpire(self._key("silo_evaluations"), self._ttl)
            pipe.execute()

    def silo_evaluations(self) -> Dict[int, Dict[str, Dict[str, float]]]:
        """Return the silos' metrics by round and silo, in order."""
        found: Dict[int, Dict[str, Dict[str, float]]] = {}
        for field, metrics in self._client.hgetall(self._key("silo_evaluations")).items():
            round, _, silo = field.partition(":")
            found.setdefault(int(round), {})[silo] = json.loads(metrics)
        return {round: dict(sorted(found[round].items())) for round in sorted(found)}

    def _append(self, name: str, entry: str) -> None:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(self._key(name), entry)
            pipe.pexpire(self._key(name), self._ttl)
            pipe.execute()


def _texts(fields: Mapping[str, Scalar]) -> Dict[str, str]:
    return {key: str(value) for key, value in fields.items()}
