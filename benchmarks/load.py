"""A cheap client: one connection per thread, kept alive for a while, and requests that are prepared as bytes."""

import json
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

CLIENTS = 8
PASSWORD = "the analytical engine"
USERS = [f"user-{number}" for number in range(100)]
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

REQUESTS_PER_CONNECTION = 20
"""A connection stays with the worker that accepted it, so a long-lived one may find a busy worker for good."""


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    """Its status line and headers."""

    body: Any
    seconds: float

    def header(self, name: str) -> str:
        """Return the value of a header. Raises StopIteration if there is none."""
        lines = (line.partition(b": ") for line in self.head.split(b"\r\n"))
        return next(value.decode() for field, _, value in lines if field.decode().lower() == name.lower())


@dataclass(frozen=True)
class Measured:
    answers: list[Answer]
    """In the order of the requests."""

    seconds: float
    """From the first request sent to the last answer read."""

    @property
    def rate(self) -> float:
        return len(self.answers) / self.seconds


def post(path: str, proof: str = "", **body: str) -> bytes:
    return request("POST", path, json.dumps(body), {"Content-Type": "application/json", "DPoP": proof})


def get(path: str, access: str, proof: str = "") -> bytes:
    return request("GET", path, "", {"Authorization": f"{'DPoP' if proof else 'Bearer'} {access}", "DPoP": proof})


def request(method: str, path: str, body: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a request; headers without a value are left out."""
    given = {"Host": "127.0.0.1", "User-Agent": AGENT, "Content-Length": str(len(body)) if body else "", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()


def send(port: int, requests: Sequence[bytes], clients: int) -> Measured:
    """Send the requests; each client sends one after the other. Raises any client's exception."""
    waiting = deque(enumerate(requests))
    answers: dict[int, Answer] = {}

    def work() -> None:
        while waiting:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(REQUESTS_PER_CONNECTION):
                    try:
                        index, request = waiting.popleft()
                    except IndexError:
                        return
                    answers[index] = _exchange(connection, request)

    start = perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work) for _ in range(clients)]:
            done.result()
    seconds = perf_counter() - start
    return Measured([answers[index] for index in range(len(requests))], seconds)


def _exchange(connection: socket.socket, request: bytes) -> Answer:
    start = perf_counter()
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _receive(connection)
    return Answer(int(lines[0].split()[1]), head, json.loads(body or "null"), perf_counter() - start)


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("The server closed the connection.")
    return data
