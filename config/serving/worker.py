"""gunicorn's worker, which answers malformed HTTP in the shape of the API's errors."""

import json
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from .outermost import headers_for

TOO_LARGE = {"detail": "The request is too large.", "code": "too_large"}
MALFORMED = {"detail": "The request is malformed.", "code": "bad_request"}
FAILED = {"detail": "A server error occurred.", "code": "error"}


def answer(status: int) -> bytes:
    """Return the whole answer to a request that gunicorn refuses with that status."""
    # An unknown transfer coding is the client's error, not the server's.
    status, reason = (400, "Bad Request") if status == 501 else (status, REASONS.get(status, "Bad Request"))
    error = FAILED if status >= 500 else TOO_LARGE if status in (413, 414, 431) else MALFORMED
    body = json.dumps(error)
    headers = {**headers_for("application/json"), "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\r\n".join(lines).encode()


REASONS = {
    403: "Forbidden",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


class ErrorSocket:
    """The socket to which gunicorn writes an error page. Only gunicorn's status is kept."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, page: bytes) -> None:
        self._sock.sendall(answer(int(page.split(b" ", 2)[1])))


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        super().handle_error(req, ErrorSocket(client), addr, exc)
