"""A proxy between the server and its database, which can hold back every response."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


class Proxy:
    """Passes bytes on from a local port to a Unix socket, and back."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.open: list[socket.socket] = [self.listener]
        self.flowing = Event()
        self.flowing.set()
        self.delay: float | None = None
        Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def holding_back(self, seconds: float | None = None) -> Iterator[None]:
        """Pass everything on to the database, and each response back after that delay, or only at the end."""
        self.delay = seconds
        self.flowing.clear()
        try:
            yield
        finally:
            self.flowing.set()

    def close(self) -> None:
        self.flowing.set()
        for end in self.open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                database = socket.socket(socket.AF_UNIX)
                database.connect(self.target)
                self.open += [client, database]
                Thread(target=self._pass_on, args=(client, database), daemon=True).start()
                Thread(target=self._pass_on, args=(database, client, self.flowing), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, flowing: Event | None = None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if flowing:
                    flowing.wait(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
