"""Random and mutated HTTP requests from a seed, for servers that must outlive them."""

from __future__ import annotations

import random
import socket
import struct
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Sequence, Tuple

SECONDS = 20.0
"""Bound of the wait for a reply."""
ODD_WORDS = (0, 1, 3, 4, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000)
ODD_JSON = (b"null", b"-1", b"1e400", b"NaN", b"[]", b"{}", b"true", b'"' + b"x" * 300 + b'"', b'"\\u0000"', b"9" * 400)
ODD_PATHS = ("/", "/pushWeight", "/job/..", "/%00", "//job", "/job?x=1", "/" + "a" * 5000, "*", "http://x/job", "")
ODD_METHODS = ("PUT", "DELETE", "HEAD", "OPTIONS", "get", "\x00", "P" * 3000)
ODD_HEADERS = (
    "Cross-Silo-Attempt: -1",
    "Cross-Silo-Attempt: 1e999",
    "Cross-Silo-Attempt: 99999999999999999999",
    "Cross-Silo-Wait: nan",
    "Cross-Silo-Wait: -5",
    "Cross-Silo-Stats: [[[[",
    'Cross-Silo-Stats: {"steps": 1e400, "train_seconds": NaN, "loss": []}',
    "Cross-Silo-Stats: " + "[" * 5000,
    "Cross-Silo-Worker: " + "w" * 3000,
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Authorization: Bearer \xff\x00",
    "Content-Length: 5",
    "X: " + "y" * 20_000,
    " folded: line",
    "no colon",
    "Connection: keep-alive",
)
ODD_LENGTHS = ("-1", "0", "1", "abc", "1e3", "99999999999999999999", "1000000000", "")


class Target(NamedTuple):
    """A sound request that others are made of."""

    method: str
    path: str
    body: bytes


class Sent(NamedTuple):
    """What came of a request."""

    request: bytes
    status: int
    """0: the connection ended without a reply."""


@dataclass
class Fuzz:
    """Sends requests to host:port ``address``, one connection each."""

    address: str
    seed: int
    workers: Sequence[str] = ("",)
    """Worker ids that some of the requests bear."""
    sent: Dict[Tuple[str, int], int] = field(default_factory=dict)
    """Replies by path and status."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, targets: Sequence[Target], count: int) -> List[Sent]:
        """Send ``count`` requests to ``targets`` in turn; return those that were answered with status 500."""
        faults = []
        for i in range(count):
            target = targets[i % len(targets)]
            sent = self.send(self.request(target))
            self.sent[target.path, sent.status] = self.sent.get((target.path, sent.status), 0) + 1
            if sent.status == 500:
                faults.append(sent)
        return faults

    def request(self, target: Target) -> bytes:
        """Make a request: one in eight is sound, the others are changed in body, headers, line or as raw bytes."""
        chance = self._random
        body = self._mutated(target.body) if chance.random() < 0.75 else target.body
        method = chance.choice(ODD_METHODS) if chance.random() < 0.03 else target.method
        path = chance.choice(ODD_PATHS) if chance.random() < 0.03 else target.path
        length = chance.choice(ODD_LENGTHS) if chance.random() < 0.05 else str(len(body))
        lines = [f"{method} {path} HTTP/{chance.choice(('1.1', '1.1', '1.1', '1.1', '1.0', '2.0', 'x'))}"]
        lines += [f"Content-Length: {length}", f"Cross-Silo-Worker: {chance.choice(self.workers)}"]
        if chance.random() < 0.2:
            lines.insert(chance.randrange(1, len(lines) + 1), chance.choice(ODD_HEADERS))
        content = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        how = chance.random()
        if how < 0.05:  # the peer leaves in the middle
            return content[: chance.randrange(len(content))]
        if how < 0.1:
            return self._bytes_changed(content)
        if how < 0.12:
            return chance.randbytes(chance.randrange(600))
        return content

    def _mutated(self, body: bytes) -> bytes:
        chance = self._random
        if body.startswith(b"{") and chance.random() < 0.7:
            return self._json_changed(body)
        how = chance.randrange(6)
        if how == 0:
            return body[: chance.randrange(len(body) + 1)]
        if how == 1:
            return body + chance.randbytes(chance.randrange(1, 200))
        if how == 2:
            return chance.randbytes(chance.choice((0, len(body), 4000)))
        if how == 3 and len(body) >= 8:
            changed = bytearray(body)
            for _ in range(chance.randrange(1, 4)):
                word = chance.choice((*ODD_WORDS, chance.randrange(len(body) + 9)))
                struct.pack_into("<I", changed, 4 * chance.randrange(len(body) // 4), word)
            return bytes(changed)
        return self._bytes_changed(body)

    def _bytes_changed(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(self._random.randrange(1, 9) if changed else 0):
            changed[self._random.randrange(len(changed))] = self._random.randrange(256)
        return bytes(changed)

    def _json_changed(self, body: bytes) -> bytes:
        """Put something odd in the place of a value, or nest deeply."""
        chance = self._random
        if chance.random() < 0.05:
            return b"[" * 20_000
        starts = [i + 1 for i, byte in enumerate(body) if byte == ord(":")]
        if not starts:
            return chance.choice(ODD_JSON)
        start = chance.choice(starts)
        ends = [i for i in (body.find(b",", start), body.find(b"}", start)) if i >= 0]
        return body[:start] + chance.choice(ODD_JSON) + body[min(ends) :]

    def send(self, request: bytes) -> Sent:
        """Send bytes, end sending, and read the reply's status. Raises TimeoutError where the server is silent."""
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as peer:
            try:
                peer.sendall(request)
                peer.shutdown(socket.SHUT_WR)
                reply = _read_all(peer)
            except (BrokenPipeError, ConnectionError):  # it has heard enough
                reply = b""
        parts = reply[:20].split()
        is_reply = len(parts) > 1 and parts[0].startswith(b"HTTP/") and parts[1].isdigit()
        return Sent(request, int(parts[1]) if is_reply else 0)


def _read_all(peer: socket.socket) -> bytes:
    reply = b""
    while True:
        piece = peer.recv(1 << 20)
        if not piece:
            return reply
        reply = (reply + piece)[:1000]
