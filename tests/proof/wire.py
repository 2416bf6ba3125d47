"""An HTTP client at the level of bytes: its requests arrive at the server at the same moment."""

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from http.cookies import SimpleCookie
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    access: str = ""
    cookie: str = ""
    body: Any = None
    """Sent as JSON."""

    proof: str = ""
    """The proof of the key to which the tokens are bound."""

    def encode(self, host: str) -> bytes:
        body = b"" if self.body is None else json.dumps(self.body).encode()
        headers = [
            f"{self.method} {self.path} HTTP/1.1",
            f"Host: {host}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *(["Content-Type: application/json"] if body else []),
            *([f"Authorization: {'DPoP' if self.proof else 'Bearer'} {self.access}"] if self.access else []),
            *([f"DPoP: {self.proof}"] if self.proof else []),
            *([f"Cookie: refreshToken={self.cookie}"] if self.cookie else []),
        ]
        return "\r\n".join([*headers, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    status: int
    """0 means that no response came, because the server went away."""

    body: dict[str, Any] = field(default_factory=dict)
    cookie: str = ""
    clears_cookie: bool = False
    retry_after: str = ""
    began: float = 0.0
    """When the request was sent; `ended` is when the response had arrived. Both are times of the monotonic clock."""

    ended: float = 0.0

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    @property
    def refresh(self) -> str:
        """The refresh token that came back, by whichever transport."""
        return self.cookie or str(self.body.get("refresh", ""))

    @property
    def access(self) -> str:
        return str(self.body.get("access") or self.body.get("accessToken", ""))


LOST = Answer(0)


def together(url: str, *requests: Request, beside: Callable[[], object] | None = None) -> list[Answer]:
    """Send the last byte of every request at the same moment; return the responses in the order of the requests.

    Call `beside` while the server works.
    """
    host = urlsplit(url).netloc
    with ExitStack() as stack:
        connections = [stack.enter_context(_connect(url)) for _ in requests]
        encoded = [request.encode(host) for request in requests]
        for connection, data in zip(connections, encoded, strict=True):
            connection.sendall(data[:-1])
        began = monotonic()
        for connection, data in zip(connections, encoded, strict=True):
            connection.sendall(data[-1:])
        if beside:
            beside()
        return _read_all(connections, began)


def _read_all(connections: list[socket.socket], began: float) -> list[Answer]:
    """Read the responses as they come, and hang up at once: gunicorn accepts no other connections before that."""
    answers = [LOST] * len(connections)
    with DefaultSelector() as selector:
        for number, connection in enumerate(connections):
            selector.register(connection, EVENT_READ, number)
        while selector.get_map() and (ready := selector.select(TIMEOUT)):
            for key, _ in ready:
                connection = connections[key.data]
                selector.unregister(connection)
                answers[key.data] = _read(connection, began)
                connection.close()
    return answers


def send(url: str, request: Request) -> Answer:
    """Send one request. Status 0 means that no response came."""
    began = monotonic()
    try:
        with _connect(url) as connection:
            connection.sendall(request.encode(urlsplit(url).netloc))
            return _read(connection, began)
    except OSError:
        return LOST


def send_and_hang_up(url: str, request: Request) -> None:
    """Send a request, and hang up before the response."""
    with _connect(url) as connection:
        connection.sendall(request.encode(urlsplit(url).netloc))
        # The server gets a reset at once, since the system doesn't wait either.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def _connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=TIMEOUT)


def _read(connection: socket.socket, began: float) -> Answer:
    try:
        response = HTTPResponse(connection)
        response.begin()
        data = response.read()
    except (OSError, HTTPException):
        return LOST
    cookies: SimpleCookie = SimpleCookie()
    for header in response.headers.get_all("Set-Cookie", []):
        cookies.load(header)
    morsel = cookies.get("refreshToken")
    return Answer(
        response.status,
        _parse(data),
        morsel.value if morsel else "",
        morsel is not None and not morsel.value,
        response.headers.get("Retry-After", ""),
        began,
        monotonic(),
    )


def _parse(data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def by_cookie(refresh: str) -> Request:
    return Request("POST", "/auth/refresh-token", cookie=refresh)


def by_body(refresh: str) -> Request:
    return Request("POST", "/api/token/refresh/", body={"refresh": refresh})


def me(access: str) -> Request:
    return Request("GET", "/api/me/", access=access)


def log_out(access: str, refresh: str) -> Request:
    return Request("POST", "/auth/logout", access=access, cookie=refresh)
