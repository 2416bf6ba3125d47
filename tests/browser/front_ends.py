"""Servers beside Latchkey: a front end, an API, and an unrelated site."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

CLIENT = Path(__file__).resolve().parents[2] / "client/src"


class Site(ThreadingHTTPServer):
    """A server on a port of its own, and so with an origin of its own.

    It serves the client's modules and a page. Every origin can read everything but the paths below /closed. /away
    redirects to `away`.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.localhost = f"http://localhost:{self.server_port}"
        self.away = ""
        #: What was asked for, and with which token; preflights are not counted.
        self.heard: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_OPTIONS(self) -> None:
        self.answer(204, {"Access-Control-Allow-Headers": "authorization, content-type"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers["Authorization"]))
        if self.path == "/away":
            self.answer(307, {"Location": self.server.away})
        elif self.path.endswith(".js"):
            self.answer(200, {"Content-Type": "text/javascript"}, (CLIENT / self.path[1:]).read_bytes())
        else:
            self.answer(200, {"Content-Type": "text/html"}, b"<!doctype html><title>A front end</title>")

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        cors = {} if self.path.startswith("/closed") else {"Access-Control-Allow-Origin": "*"}
        for name, value in {**cors, **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
