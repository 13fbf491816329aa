"""What Redis holds of the engine beside the job's record: our verdicts on its iterations, and its own keys."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import asdict, dataclass
from typing import List, Optional, Tuple

import redis

from cross_silo.config.federated import split_address
from cross_silo.coordination.store import PREFIX

ENGINE_PREFIX = "ms_fl"
STOPPED = 3
"""The engine's runningState with which its servers leave."""
KEPT = 1000
KEPT_MILLISECONDS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class Verdict:
    """How an iteration of the engine ended."""

    iteration: int
    """The engine's number, which counts failed ones too."""
    good: bool
    reason: str
    round: int
    """The newest good round: the one just made, if ``good``."""
    checkpoint: str = ""
    """Path of that round's model."""
    seconds: float = 0.0
    """Time that writing it took."""


class EngineRecord:
    """The engine's part of one job's keys."""

    def __init__(self, client: redis.Redis, fl_name: str) -> None:
        """Take a ``client`` that decodes replies to text."""
        self._client = client
        self._verdicts = f"{PREFIX}:{fl_name}:verdicts"
        self._engine = f"{ENGINE_PREFIX}:{fl_name}:"

    def add_verdict(self, verdict: Verdict) -> None:
        """Append a verdict."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(self._verdicts, {"verdict": json.dumps(asdict(verdict))}, maxlen=KEPT)
            pipe.pexpire(self._verdicts, KEPT_MILLISECONDS)
            pipe.execute()

    def verdicts(self, after: str, wait: float) -> List[Tuple[str, Verdict]]:
        """Return (id, verdict) of those that came after the id ``after``, oldest first, waiting for one if need be."""
        found = self._client.xread({self._verdicts: after}, block=max(int(wait * 1000), 1))
        entries = found[0][1] if found else []
        return [(number, Verdict(**json.loads(fields["verdict"]))) for number, fields in entries]

    def forget_verdicts(self) -> None:
        """Drop all verdicts: those of another run of the job."""
        self._client.delete(self._verdicts)

    def flush_engine(self) -> None:
        """Forget what the engine keeps of an earlier run: it begins again with the model that it is given."""
        for key in self._client.scan_iter(f"{self._engine}*", count=1000):
            self._client.delete(key)

    def stop_engine(self) -> None:
        """Have the engine's servers leave; they do within two seconds."""
        instance = self._instance()
        if instance:
            self._client.hset(f"{instance}:status:Hash", "runningState", STOPPED)

    def bury_dead_servers(self) -> List[str]:
        """Forget servers that were killed, and return their ids: a new one would wait for them for ten seconds."""
        instance = self._instance()
        dead = []
        for node, address in (self._client.hgetall(f"{instance}:server:Hash") if instance else {}).items():
            if refuses(address):
                self._client.hdel(f"{instance}:server:Hash", node)
                self._client.delete(f"{instance}:server:heartbeat:{node}:String")
                dead.append(node)
        return dead

    def drop_lost_iteration(self) -> Optional[int]:
        """Where no server is left, forget the engine's state, and return the iteration that it was in, if any.

        A new server would go on with it, although the updates went with the old one, and wait for its windows' end.
        """
        instance = self._instance()
        if not instance or self._client.exists(f"{instance}:server:Hash"):
            return None
        number = self._client.hget(f"{instance}:status:Hash", "iterationNum")
        self.flush_engine()
        return int(number) if number else None

    def _instance(self) -> Optional[str]:
        name = self._client.get(f"{self._engine}InstanceName:String")
        return f"{self._engine}{name}" if name else None


def refuses(address: str, seconds: float = 1.0) -> bool:
    """Tell whether nothing listens at ``address`` (host:port)."""
    try:
        with contextlib.closing(socket.create_connection(split_address(address, "address"), timeout=seconds)):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:  # too slow an answer is one
        return False
