"""What a server beside the first one holds: its tensors of the global model, and the sum of a round's updates to them.

It decides nothing: the first server (the leader) says whose shard is to come, which are added, what the mean is over
and which model is the good one. What it holds is gone with its process; the leader then gives it the model anew.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Dict, Mapping, Optional, Sequence, Set, Tuple

from cross_silo.aggregation.arrival import ADDED, ADDING, DROPPED, EXPECTED, RECEIVED, REFUSED, Arrival
from cross_silo.aggregation.averaging import RoundSum
from cross_silo.aggregation.models import ModelStore, Reading
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.sharded_sum import make_round_sum
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.config.aggregation import Aggregation
from cross_silo.protocol.layout import ModelMessage


class ShardError(Exception):
    """The leader asks for what is not there: one of the two was restarted, or the round is another one."""


class Shard:
    """Thread-safe."""

    def __init__(self, settings: Aggregation) -> None:
        self._settings = settings
        self.changed = threading.Condition()
        """Guards everything but the sum, which has a lock of its own."""
        self.term = ""
        """The leader's process, or its instance of the job."""
        self.key: Optional[Key] = None
        self.models: Optional[ModelStore] = None
        self.trainable: Tuple[str, ...] = ()
        self._draft: Optional[ModelMessage] = None
        self._sum: Optional[RoundSum] = None
        self._arrivals: Dict[str, Arrival] = {}
        self._added: Set[str] = set()

    # for the leader

    def begin(self, term: str, sizes: Mapping[str, int], trainable: Sequence[str]) -> ModelMessage:
        """Forget what there is and hold ``sizes`` from now on.

        Returns:
            Where the leader's model is to be written before :meth:`serve` is called.
        """
        models = ModelStore(sizes)
        with self.changed:
            self._drop_all("the first server was restarted, or its job begun anew")
            self.term, self.key, self.models, self._draft = term, None, models, None
            self.trainable = tuple(trainable)
            self._added = set()
            self._sum = make_round_sum(self._settings, models, None)
            return models.message

    def serve(self, term: str, tag: str) -> None:
        """The model is there."""
        with self.changed:
            self._check(term)
            self.models.message.tag = tag
            self.changed.notify_all()

    def expect(self, term: str, key: Key, base: str, silo: str, worker: str, samples: int) -> None:
        """A worker is about to send a shard; in a new round the first one to do so.

        Args:
            base: tag of the model that the updates of this round come from.
        """
        with self.changed:
            self._check(term)
            if self.models.message.tag != base:
                raise ShardError(f"it has another model than the first server: {self.models.message.tag!r}")
            if self.key is not None and key < self.key:
                return  # its round ended while the request was on its way
            if key != self.key:
                self._drop_all("another round has begun")
                self.key, self._draft, self._added = key, None, set()
            self._drop(silo, "the worker sends it anew")
            if silo not in self._added:
                self._arrivals[silo] = Arrival(worker, samples)
            self.changed.notify_all()

    def receipt(self, term: str, key: Key, silo: str, wait: float) -> Arrival:
        """Wait for a shard and say what there is of it; "expected" still after ``wait`` seconds."""
        with self.changed:
            self._check(term)
            arrival = self._arrivals.get(silo)
            if key != self.key or arrival is None:
                return Arrival("", 0, DROPPED, reason="nothing is expected of it any more")
            self.changed.wait_for(lambda: arrival.state != EXPECTED, wait)
            return arrival

    def drop(self, term: str, key: Key, silo: str, reason: str) -> None:
        """No use is made of a shard, whether it is there or still to come."""
        with self.changed:
            self._check(term)
            if key == self.key:
                self._drop(silo, reason)

    def add(self, term: str, key: Key, silo: str, norm: Optional[float]) -> None:
        """Add a shard to the round's sum; once, however often it is asked for.

        Args:
            norm: of the whole update, where something reads it.
        """
        with self.changed:
            self._check(term)
            if key == self.key and silo in self._added:
                return
            arrival = self._arrivals.get(silo)
            if key != self.key or arrival is None or arrival.state != RECEIVED:
                raise ShardError(f"the shard of silo {silo} is not there")
            arrival.state = ADDING
            total = self._sum
        try:
            with total.lock:
                if key != self.key:  # a sum of the next round, begun meanwhile, must not be begun again
                    raise ShardError("another round has begun")
                total.add(key, replace(arrival.update, norm=norm), None)
            with self.changed:
                if key == self.key:
                    self._added.add(silo)
                arrival.state = ADDED
        finally:
            with self.changed:
                arrival.state = ADDED if arrival.state == ADDED else DROPPED
                self.changed.notify_all()

    def prepare(self, term: str, key: Key, silos: Sequence[str], samples: int, tag: str) -> None:
        """Make the mean over ``silos`` and call it ``tag``.

        Raises:
            ShardError: the sum is not over exactly these.
            NonFiniteAverageError: a value is beyond float32.
        """
        with self.changed:
            self._check(term)
            if key != self.key or self._added != set(silos):
                raise ShardError(f"its sum is over {sorted(self._added)}, expected {sorted(silos)}")
            if self._draft is not None and self._draft.tag == tag:
                return
            total = self._sum
        with total.lock:
            total.divide(samples)
            total.place.tag = tag
            with self.changed:
                if key == self.key:
                    self._draft = total.place
                self.changed.notify_all()

    def commit(self, term: str, tag: str, round: int) -> None:
        """The prepared model is the good one of ``round``."""
        with self.changed:
            self._check(term)
            if self.models.message.tag == tag:
                return
            if self._draft is None or self._draft.tag != tag:
                raise ShardError(f"no model {tag!r} is prepared")
            self.models.stamp(self._draft, round)
            self.models.publish(self._draft, round)
            self._draft = None
            self.changed.notify_all()

    # for those who send and fetch

    def arrival(self, silo: str, worker: str, key: Key) -> Optional[Arrival]:
        """Return what is expected of a worker in round ``key``; None: nothing, or it is there."""
        with self.changed:
            found = self._arrivals.get(silo)
            wanted = found is not None and key == self.key and found.worker == worker and found.state == EXPECTED
            return found if wanted else None

    def received(self, arrival: Arrival, update: CheckedUpdate, squares: float, wait: float) -> Arrival:
        """Offer a shard to the leader; return once its buffer may be used again."""
        with self.changed:
            if arrival.state == EXPECTED:
                arrival.state, arrival.update, arrival.squares = RECEIVED, update, squares
                self.changed.notify_all()
            if not self.changed.wait_for(lambda: arrival.is_over, wait):
                if arrival.state == RECEIVED:
                    arrival.state, arrival.reason = DROPPED, f"the first server asked nothing of it for {wait:g} s"
                self.changed.wait_for(lambda: arrival.is_over)
        return arrival

    def refuse(self, arrival: Arrival, reason: str, kind: str) -> None:
        """A shard is not what it should be; the leader hears of it."""
        with self.changed:
            if arrival.state == EXPECTED:
                arrival.state, arrival.reason, arrival.kind = REFUSED, reason, kind
                self.changed.notify_all()

    def read(self, tag: str, wait: float = 0.0) -> Optional[Reading]:
        """Begin to read the model ``tag``, the good one or the one prepared; None where it is neither."""
        deadline = time.monotonic() + wait
        with self.changed:
            while True:
                for message in (self.models.message if self.models is not None else None, self._draft):
                    if message is not None and tag and message.tag == tag:
                        return self.models.read_draft(message, 0)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def _check(self, term: str) -> None:
        if not term or term != self.term:
            raise ShardError("it does not know this first server: one of them was restarted")

    def _drop(self, silo: str, reason: str) -> None:
        arrival = self._arrivals.pop(silo, None)
        if arrival is not None and arrival.state in (EXPECTED, RECEIVED):
            arrival.state, arrival.reason = DROPPED, reason
            self.changed.notify_all()

    def _drop_all(self, reason: str) -> None:
        for silo in list(self._arrivals):
            self._drop(silo, reason)
