"""A TLS connection that receives and sends large pieces, many records at a time.

``ssl.SSLSocket`` asks the kernel twice for each record of 16 KiB; for a model that costs as much as the decryption.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from typing import Any, Optional

PIECE_BYTES = 256 << 10
"""Encrypted bytes a call of the socket in the middle of a large message."""
_TURN = threading.Lock()
"""One stream at a time works on its records: threads that take turns at each of them, as each gives up Python's lock
for its duration, wait for one another most of the time."""
SMALL_BYTES = 16 << 10
"""The same at other times, when the peer may be anybody."""


class TlsStream:
    """What HTTP needs of a socket, over TLS; for one thread at a time. The plain socket stays its owner's."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_side: bool, host: Optional[str] = None
    ) -> None:
        """Prepare; :meth:`do_handshake` comes first.

        Args:
            host: whom the other side's certificate must name, for one who asks.
        """
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)
        self._received = memoryview(bytearray(SMALL_BYTES))
        self._ended = False
        self._readers = 0
        self._closed = False
        self.settimeout, self.setsockopt, self.fileno = sock.settimeout, sock.setsockopt, sock.fileno
        self.getpeercert = self._tls.getpeercert

    def do_handshake(self) -> None:
        """Shake hands. Raises OSError; the other side has been told why."""
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive():
                    raise ConnectionError("the peer left in the handshake") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()
                raise

    def recv_into(self, buffer: Any) -> int:
        """Wait for bytes and take all that are there and fit into ``buffer``; 0: the peer has ended."""
        view = memoryview(buffer)
        if len(view) >= PIECE_BYTES > len(self._received):
            self._received = memoryview(bytearray(PIECE_BYTES))
        while True:
            with _TURN:
                done = self._decrypt(view)
            if done or not self._receive():
                return done

    def _decrypt(self, view: memoryview) -> int:
        """Fill ``view`` with what was received; the bytes that there were."""
        done, read = 0, self._tls.read
        try:
            while done < len(view) and (count := read(len(view) - done, view[done:])):
                done += count
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        return done

    def sendall(self, content: Any) -> None:
        """Send all of ``content``."""
        view = memoryview(content).cast("B")
        done, write = 0, self._tls.write
        while done < len(view):
            with _TURN:
                while done < len(view) and self._outgoing.pending < PIECE_BYTES:
                    done += write(view[done:])
            self._flush()

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedReader:
        """Return a reader; the socket is closed after it is."""
        self._readers += 1
        return io.BufferedReader(_Incoming(self), io.DEFAULT_BUFFER_SIZE if buffering < 0 else buffering)

    def close(self) -> None:
        """Close the plain socket, once no reader is left."""
        self._closed = True
        if not self._readers:
            self._sock.close()

    def reader_closed(self) -> None:
        """Note that a reader is done."""
        self._readers -= 1
        if self._closed:
            self.close()

    def _receive(self) -> bool:
        """Take encrypted bytes; False at the peer's end."""
        if self._ended:
            return False
        count = self._sock.recv_into(self._received)
        if count:
            self._incoming.write(self._received[:count])
        else:
            self._ended = True
            self._incoming.write_eof()
        return bool(count)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())


class _Incoming(io.RawIOBase):
    """The decrypted bytes of a stream."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.reader_closed()
