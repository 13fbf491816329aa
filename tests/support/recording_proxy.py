"""A TCP proxy that keeps what clients send."""

import socket
import threading
from contextlib import suppress


class RecordingProxy:
    """Forwards to ``port`` of this machine; listens at ``self.port``."""

    def __init__(self, port):
        self._target = port
        self._sent = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def sent(self):
        """The bytes that clients have sent, connection after connection."""
        return b"\n".join(bytes(one) for one in self._sent)

    def close(self):
        """Take no more connections."""
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                kept = bytearray()
                self._sent.append(kept)
                threading.Thread(target=self._pump, args=(client, server, kept), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, bytearray()), daemon=True).start()

    def _pump(self, source, sink, kept):
        with suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                kept += data
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
