"""Brings a silo's feature shards to the server: by HTTP in chunks, or through an object storage.

Both go on where an earlier try ended, and return only once the server has everything.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.transmitter import HTTP
from cross_silo.errors import UserError
from cross_silo.mistnet import wire
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.objects import ObjectPlace

log = logging.getLogger(__name__)

MOST_TRIES = 5
"""Times that a file is sent, or that the server is asked to take one, before giving up."""
POLL_SECONDS = 1.0
Sent = Callable[[int], None]
"""Hears of bytes that are at the server now."""


class Transmitter(Protocol):
    """One way to the server."""

    def deliver(self, directory: Path, manifest: Mapping[str, Any], sent: Sent) -> None:
        """Bring the files of ``manifest``, which stand in ``directory``, to the server.

        Raises:
            UserError: it does not take them, or cannot be reached.
        """


class HttpTransmitter:
    """Chunk by chunk to the server itself; every call is authenticated as any other."""

    def __init__(self, client: FeatureClient, chunk_bytes: int = wire.CHUNK_BYTES) -> None:
        """Args: ``client`` holds the silo's lease."""
        self._client = client
        self._chunk_bytes = chunk_bytes

    def deliver(self, directory: Path, manifest: Mapping[str, Any], sent: Sent) -> None:
        """See :class:`Transmitter`."""
        for _ in range(MOST_TRIES):
            standing = self._client.offer(manifest)
            if standing.whole:
                return
            for entry in manifest["files"]:
                self._send(directory / entry["name"], entry, standing.have.get(entry["name"], 0), sent)
        if not self._client.offer(manifest).whole:
            raise UserError(f"the server does not have all features of {directory} after {MOST_TRIES} tries")

    def _send(self, path: Path, entry: Mapping[str, Any], have: int, sent: Sent) -> None:
        size, back = entry["bytes"], 0
        with open(path, "rb") as file:
            while have < size:
                file.seek(have)
                data = file.read(self._chunk_bytes)
                if not data:
                    raise UserError(f"{path} has {have} bytes, expected {size} as its manifest says")
                now = self._client.chunk(entry["name"], have, data)
                if now <= have:
                    back += 1
                    if back >= MOST_TRIES:
                        raise UserError(f"{path}: the server took it {back} times and found it damaged each time")
                    log.warning("%s: the server has %d bytes, not %d: going on from there", path.name, now, have)
                else:
                    sent(now - have)
                have = now


class ObjectTransmitter:
    """Through an object storage (``s3`` or ``file``): the server takes the shards from there by itself."""

    def __init__(self, client: FeatureClient, place: ObjectPlace, sleep: Callable[[float], None] = time.sleep) -> None:
        """Args: ``client`` holds the silo's lease."""
        self._client = client
        self._place = place
        self._sleep = sleep

    def deliver(self, directory: Path, manifest: Mapping[str, Any], sent: Sent) -> None:
        """See :class:`Transmitter`."""
        if self._client.offer(manifest).whole:
            return
        problem = ""
        for attempt in range(MOST_TRIES):
            for entry in manifest["files"]:
                self._place.put(directory / entry["name"], entry, again=attempt > 0)
                sent(0 if attempt else entry["bytes"])
            standing = self._client.placed(manifest)
            while not standing.whole and not standing.problem:
                self._sleep(POLL_SECONDS)
                standing = self._client.placed(manifest)
            if standing.whole:
                return
            problem = standing.problem
            log.warning("the server could not take the features: %s", problem)
        raise UserError(f"the server could not take the features in {MOST_TRIES} tries: {problem}")


def make_transmitter(config: FederatedConfig, client: FeatureClient, silo: str) -> Transmitter:
    """Return the way that the job's ``transmitter`` names; ``client`` holds the silo's lease."""
    if config.transmitter.channel == HTTP:
        return HttpTransmitter(client)
    return ObjectTransmitter(client, ObjectPlace(config.transmitter.agg_data_path, config.fl_name, silo))
