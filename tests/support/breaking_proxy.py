"""A TCP proxy that breaks connections after so many bytes of the server's answers."""

import socket
import threading
from contextlib import suppress


class BreakingProxy:
    """Forwards to ``port`` of this machine; listens at ``self.port``.

    ``limits``: bytes of the answer after which the n-th connection that carries more than headers is cut;
    connections beyond the list are left whole.
    """

    def __init__(self, port: int, limits=()) -> None:
        self._target, self.limits, self.cut, self.connections = port, list(limits), 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self.connections += 1
                    limit = self.limits.pop(0) if self.limits else None
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, limit), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit) -> None:
        passed = 0
        with suppress(OSError):
            while True:
                data = source.recv(65536)
                if limit is not None and passed + len(data) >= limit:
                    sink.sendall(data[: limit - passed])
                    self.cut += 1
                    break
                if not data:
                    break
                sink.sendall(data)
                passed += len(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
