"""The servers beside the first one, as that one uses them: who is there, and each step of a round at all of them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from cross_silo.aggregation.arrival import DROPPED, EXPECTED, REFUSED
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.shard_link import ASK_SECONDS, WORK_SECONDS, ServerLostError, ShardLink
from cross_silo.aggregation.update import Tensors
from cross_silo.aggregation.uploads import InvalidUpdateError
from cross_silo.protocol import headers
from cross_silo.protocol.layout import ModelMessage
from cross_silo.protocol.split import Split, names_of, to_text
from cross_silo.protocol.tasks import Task, at_once

log = logging.getLogger(__name__)

PING_SECONDS = 0.5
RECEIPT_SECONDS = 10.0
"""A request waits so long for a shard that is on its way; it is repeated while it is."""


class ShardGoneError(Exception):
    """A shard of an update will not come: its worker has given it up, or its round is over."""


@dataclass
class _Member:
    """One of the servers."""

    link: ShardLink
    names: List[str]
    lost: str = "it has not been reached yet"
    """Why nothing can be asked of it; empty: it is there, with the model."""
    since: float = 0.0
    """When that began, by the clock."""


class Shards:
    """Thread-safe."""

    def __init__(
        self,
        links: Sequence[ShardLink],
        found: Split,
        trainable: Sequence[str],
        models: ModelStore,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            found: which server has which tensor; 0 is this one.
            models: the global model, whose tensors lie in the order of the servers.
            patience: seconds of silence after which a server counts as lost.
        """
        self.names = names_of(found, 0)
        """This server's tensors."""
        self.split_text = to_text(found)
        self.on_lost: Callable[[str], None] = lambda reason: None
        """Called when a server is lost."""
        self.on_back: Callable[[], None] = lambda: None
        """Called when a server is there (again)."""
        self._members = [_Member(link, names_of(found, link.index), since=clock()) for link in links]
        self._trainable = set(trainable)
        self._models = models
        self._patience = patience
        self._clock = clock
        self._term = secrets.token_hex(8)
        self._lock = threading.Lock()
        models.message.tag = secrets.token_hex(8)

    # who is there

    @property
    def addresses(self) -> List[str]:
        """The other servers', in order."""
        return [member.link.address for member in self._members]

    def away(self) -> str:
        """Say which servers are not there; empty: all are."""
        with self._lock:
            return "; ".join(f"{member.link}: {member.lost}" for member in self._members if member.lost)

    def away_since(self) -> Optional[float]:
        """Return since when a server has been away, by the clock."""
        with self._lock:
            return min((member.since for member in self._members if member.lost), default=None)

    def shown(self) -> List[Dict[str, Any]]:
        """Return what people see of the servers."""
        with self._lock:
            return [
                {"server": member.link.index, "address": member.link.address, "lost": member.lost}
                for member in self._members
            ]

    def watch(self, stop: threading.Event) -> None:
        """Look after the servers until ``stop``: notice a lost one, give one that is back the model."""
        at_once([partial(self._watch, member, stop) for member in self._members])

    def _watch(self, member: _Member, stop: threading.Event) -> None:
        silent_since: Optional[float] = None
        while not stop.wait(PING_SECONDS):
            try:
                term = member.link.ask("ping", min(self._patience, 5.0))["term"]
                silent_since = None
                if term != self._term:
                    self._lose(member, "it was restarted")
                if member.lost:
                    self._install(member)
            except ServerLostError as error:
                now = self._clock()
                silent_since = now if silent_since is None else silent_since
                if "refused" in str(error) or now - silent_since >= self._patience:
                    self._lose(member, "it does not answer")
                log.debug("%s", error)
            except Exception:  # the next look may go better
                log.exception("%s", member.link)

    def _install(self, member: _Member) -> None:
        """Give a server its tensors."""
        term = self._term
        sizes = {name: self._models.sizes[name] for name in member.names}
        trainable = [name for name in member.names if name in self._trainable]
        member.link.ask("begin", WORK_SECONDS, term=term, index=member.link.index, sizes=sizes, trainable=trainable)
        reading = self._models.read()
        try:
            tag = reading.tag
            member.link.send_model(term, tag, reading.region(member.names))
        finally:
            reading.close()
        with self._lock:
            if term != self._term or tag != self._models.message.tag:
                return  # looked at again at once
            member.lost = ""
        log.info("%s is there and has %d tensors of the model", member.link, len(member.names))
        self.on_back()

    def _lose(self, member: _Member, why: str) -> None:
        with self._lock:
            if member.lost:
                return
            member.lost, member.since = why, self._clock()
        log.warning("%s is lost: %s", member.link, why)
        self.on_lost(f"{member.link} is lost: {why}")

    def begin_anew(self) -> None:
        """Have every server forget its rounds and take the model again: those of another job's instance begin."""
        with self._lock:
            self._term = secrets.token_hex(8)
            for member in self._members:
                member.lost, member.since = "another instance of the job begins", self._clock()

    # an update

    def expect(self, key: Key, silo: str, worker: str, samples: int) -> None:
        """Let a worker send its shards. Raises ServerLostError."""
        base = self._models.message.tag
        self._all("expect", key=key, base=base, silo=silo, worker=worker, samples=samples)

    def receipts(self, key: Key, silo: str, seconds: float) -> float:
        """Wait until every other server has its shard of an update.

        Returns:
            The sum of squares of their parts of the update's norm.

        Raises:
            InvalidUpdateError: one refuses it.
            ShardGoneError: one of them will not come.
            ServerLostError: a server is gone.
        """
        deadline = self._clock() + seconds
        return sum(self._at_all(lambda member: self._receipt(member, key, silo, deadline)))

    def _receipt(self, member: _Member, key: Key, silo: str, deadline: float) -> float:
        while True:
            wait = min(RECEIPT_SECONDS, max(deadline - self._clock(), 0.0))
            found = self._ask(member, "receipt", wait + ASK_SECONDS, key=key, silo=silo, wait=wait)
            if found["state"] == REFUSED:
                raise InvalidUpdateError(found["reason"], found["kind"])
            if found["state"] == DROPPED:
                raise ShardGoneError(f"{member.link.name} has no use for its shard: {found['reason']}")
            if found["state"] != EXPECTED:
                return float(found["squares"])
            if self._clock() >= deadline:
                raise ShardGoneError(f"{member.link.name} waited {wait:g} s for its shard")

    def forward(self, key: Key, silo: str, worker: str, tensors: Tensors, loss: float) -> None:
        """Send the other servers their shards of a whole update, in threads that end with the update's fate."""
        for member in self._members:
            values = {"fl_name": "cross_silo", "fl_id": silo, "iteration": key[0], "upload_loss": loss}
            sizes = {name: len(tensors[name]) for name in member.names}
            message = ModelMessage("RequestUpdateModel", sizes, {**values, "timestamp": "0" * 13})
            for name, out in message.tensors.items():
                out[:] = tensors[name]
            told = {headers.WORKER: worker, headers.ATTEMPT: str(key[1]), headers.SHARD: "1"}
            arguments = (member, key, silo, told, message)
            threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, member: _Member, key: Key, silo: str, told: Mapping[str, str], message: ModelMessage) -> None:
        try:
            status, body = member.link.send_update(told, message.buffer)
            if status != 200:
                what = f"HTTP {status}: {str(body[:300], 'utf-8', 'replace')}"
                self._ask(member, "drop", key=key, silo=silo, reason=what)
        except ServerLostError as error:
            log.warning("the update of %s is not forwarded: %s", silo, error)

    def drop(self, key: Key, silo: str, reason: str) -> None:
        """Make no use of an update."""
        for member in self._members:
            try:
                self._ask(member, "drop", key=key, silo=silo, reason=reason)
            except ServerLostError as error:
                log.debug("%s", error)

    # a round's model

    @contextmanager
    def meanwhile(self, step: str, **content: Any) -> Iterator[None]:
        """Have the other servers take a step while this one takes its own. Raises what :meth:`_all` does."""
        task = Task(lambda: self._all(step, WORK_SECONDS, **content))
        try:
            yield
        finally:
            task.wait()
        task.result()

    def gather(self, tag: str, place: ModelMessage) -> None:
        """Write the other servers' tensors of the prepared model into ``place``. Raises ServerLostError."""

        def fetch(member: _Member) -> None:
            try:
                member.link.fetch_model(tag, place.region(member.names))
            except ServerLostError:
                self._lose(member, "it did not send its part of the model")
                raise

        self._at_all(fetch)

    def commit(self, tag: str, round: int) -> None:
        """Tell them that the model is the good one; a server that does not hear it gets it anew."""
        try:
            self._all("commit", tag=tag, round=round)
        except ServerLostError as error:
            log.warning("%s", error)

    def end(self) -> None:
        """Tell them that the job is over."""
        for member in self._members:
            try:
                member.link.ask("end", term=self._term)
            except ServerLostError as error:
                log.warning("%s", error)

    def _all(self, step: str, seconds: float = ASK_SECONDS, **content: Any) -> None:
        self._at_all(lambda member: self._ask(member, step, seconds, **content))

    def _at_all(self, action: Callable[[_Member], Any]) -> List[Any]:
        """Do it at all servers at once; raise the first error once all are done."""
        return at_once([partial(action, member) for member in self._members])

    def _ask(self, member: _Member, step: str, seconds: float = ASK_SECONDS, **content: Any) -> Dict[str, Any]:
        if member.lost:  # it is given the model anew before anything else; nobody waits for its silence again
            raise ServerLostError(f"{member.link} is lost: {member.lost}")
        try:
            return member.link.ask(step, seconds, term=self._term, **content)
        except ServerLostError as error:
            self._lose(member, str(error).partition(": ")[2] or str(error))
            raise
