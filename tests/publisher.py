"""A server that publishes a key set, for the code that fetches one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Publisher(ThreadingHTTPServer):
    """Responds to every GET with `status`, `headers` and `body`, and records it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/.well-known/jwks.json"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.requests = 0
        self.asked: list[tuple[str, dict[str, str]]] = []
        """The path and the headers of each request."""

    def publish(self, *keys: Any) -> None:
        self.body = json.dumps({"keys": keys}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class calls it that)
        pass


@contextmanager
def publishing() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
