"""The layer around Django, and gunicorn's own responses; over real HTTP where possible."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import RequestFactory
from django.utils.http import parse_header_parameters

from config.serving import outermost, worker
from tests.server import address_of_database, serve

pytestmark = pytest.mark.django_db

MALFORMED = [
    "{}; a*=bogus''x",
    "{}; a*=undefined''x",
    "{}; a*=idna''%ff",
    "{}; a*=utf-8''x; a*0=y",
    "{}; a*" + "9" * 5000 + "=x",
]
PART = b"--x\r\nContent-Disposition: form-data; name*=utf-8''x; name*0=y\r\n\r\nx\r\n--x--\r\n"
MULTIPART = "multipart/form-data; boundary=x"
COMMUNICATOR: Any = ApplicationCommunicator
CHUNKED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
LIMIT = settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def ask(url: str, request_line: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send these bytes as a request, and return the status, the headers and the body of the response."""
    lines = [f"{request_line} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + body)
        with connection.makefile("rb") as answer:
            head, _, rest = answer.read().partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), rest


def assert_refused(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    got, headers, body = answer
    assert got == status, body
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert f'"code": "{code}"'.encode() in body.replace(b'"code":"', b'"code": "')


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    with serve(address_of_database(), WORKERS="1", THROTTLING="off") as url:
        yield url


@pytest.mark.django_db(transaction=True)
def test_server_answers_unparsable_requests(server: str) -> None:
    for value in MALFORMED:
        accept, content_type = value.format("text/html"), value.format("application/json")
        assert_refused(ask(server, "GET /nowhere", f"Accept: {accept}"), 400, "bad_request")
        assert_refused(ask(server, "GET /nowhere", f"Accept: a/b, {accept}"), 400, "bad_request")
        response = ask(server, "POST /auth/login", f"Content-Type: {content_type}", "Content-Length: 2", body=b"{}")
        assert_refused(response, 400, "bad_request")
        assert_refused(ask(server, "GET /", f"Content-Disposition: {value.format('a')}"), 400, "bad_request")
    part = (f"Content-Type: {MULTIPART}", f"Content-Length: {len(PART)}")
    assert_refused(ask(server, "POST /api/token/", *part, body=PART), 400, "parse_error")
    csrf = ("Cookie: csrftoken=" + "a" * 32,)
    assert_refused(ask(server, "POST /admin/login/", *part, *csrf, body=PART), 400, "bad_request")
    for header in ("Transfer-Encoding: xchunked", "Content-Length: x", "X: \x7f", "Expect: a lot", "X"):
        assert_refused(response := ask(server, "GET /", header), response[0], "bad_request")
        assert response[0] in (400, 417)
    assert_refused(ask(server, "GET /" + "a" * 9000), 414, "too_large")
    assert_refused(ask(server, "GET /", "X: " + "a" * 9000), 431, "too_large")


@pytest.mark.django_db(transaction=True)
def test_server_reads_chunked_bodies(server: str) -> None:
    body = json.dumps({"username": "ada", "password": "the analytical engine"}).encode()
    headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    status, _, answer = ask(server, "POST /auth/register", *headers, body=chunked(body[:7], body[7:]))
    assert (status, json.loads(answer)["user"]["username"]) == (201, "ada")
    full = json.dumps({"username": "a" * (LIMIT - 64)}).encode().ljust(LIMIT)
    assert ask(server, "POST /auth/login", *headers, body=chunked(full))[0] == 400
    assert_refused(ask(server, "POST /auth/login", *headers, body=chunked(full, b" ")), 413, "too_large")
    assert_refused(ask(server, "POST /auth/login", *headers, body=b"zz\r\nabc\r\n"), 400, "bad_request")


# The same without a server, and cases that only other servers meet


@pytest.fixture
def wsgi() -> Callable[..., tuple[int, dict[str, str], bytes]]:
    handler = get_wsgi_application()
    handler.request_class = outermost.Request
    application = outermost.WSGI(handler)

    def call(method: str, path: str, body: bytes = b"", **extra: Any) -> tuple[int, dict[str, str], bytes]:
        environ = RequestFactory().generic(method, path, body).environ | extra
        started: list[Any] = []
        given = application(environ, lambda *answer: started.extend(answer))  # type: ignore[arg-type]
        return int(started[0].split()[0]), dict(started[1]), b"".join(given)

    return call


@pytest.mark.parametrize("key", ["CONTENT_TYPE", "HTTP_ACCEPT", "HTTP_CONTENT_DISPOSITION"])
@pytest.mark.parametrize("value", MALFORMED)
def test_unparsable_header_is_400(wsgi: Any, key: str, value: str) -> None:
    assert_refused(wsgi("POST", "/nowhere", **{key: value.format("a/b")}), 400, "bad_request")


@pytest.mark.parametrize("header", ["", "text/html", "a/b; charset=bz2", "*/*;q=0.8", "a/b; a*=utf-8''%e2%82%ac"])
def test_unusual_but_valid_header_passes(header: str) -> None:
    assert outermost.is_parsable(header)
    parse_header_parameters(header)


def test_unparsable_multipart_part_is_400(wsgi: Any) -> None:
    assert_refused(wsgi("POST", "/api/token/", PART, CONTENT_TYPE=MULTIPART), 400, "parse_error")
    cookie = {"HTTP_COOKIE": "csrftoken=" + "a" * 32}
    assert_refused(wsgi("POST", "/admin/login/", PART, CONTENT_TYPE=MULTIPART, **cookie), 400, "bad_request")


def test_two_cookie_headers_are_joined(wsgi: Any) -> None:
    page = wsgi("GET", "/admin/login/")
    token = page[1]["Set-Cookie"].strip().partition(";")[0]
    body = page[2].partition(b'name="csrfmiddlewaretoken" value="')[2].partition(b'"')[0]
    response = wsgi(
        "POST",
        "/admin/login/",
        b"csrfmiddlewaretoken=" + body,
        CONTENT_TYPE="application/x-www-form-urlencoded",
        HTTP_COOKIE=f"theme=dark,{token}",
    )
    assert response[0] == 200  # and not 403 because of the missing cookie


@pytest.mark.parametrize("terminated", [True, False])
def test_chunked_body_is_read_if_its_end_is_detectable(wsgi: Any, terminated: bool) -> None:
    body = b'{"token": "junk"}'
    extra: dict[str, Any] = {"CONTENT_TYPE": "application/json", **CHUNKED}
    extra |= {"wsgi.input": BytesIO(body), "wsgi.input_terminated": terminated}
    response = wsgi("POST", "/api/token/verify/", **extra)
    assert_refused(response, *((401, "token_not_valid") if terminated else (411, "length_required")))


def test_too_long_chunked_body_is_not_read_further(wsgi: Any) -> None:
    source = BytesIO(b" " * (LIMIT + 100))
    extra = {**CHUNKED, "wsgi.input": source, "wsgi.input_terminated": True}
    assert_refused(wsgi("POST", "/auth/login", **extra), 413, "too_large")
    assert source.tell() == LIMIT + 1


def test_error_outside_django_is_json() -> None:
    def broken(environ: Any, start_response: Any) -> Any:
        raise ValueError

    started: list[Any] = []
    body = outermost.WSGI(broken)({}, lambda *answer: started.extend(answer))  # type: ignore[arg-type]
    assert_refused((int(started[0].split()[0]), dict(started[1]), b"".join(body)), 500, "error")


def asgi(scope: dict[str, Any], *messages: dict[str, Any], application: Any = None) -> Any:
    """Send a request to the ASGI application; return status, headers and body, or the only message of a WebSocket."""
    handler = get_asgi_application()
    handler.request_class = outermost.AsyncRequest
    whole = {
        "type": "http",
        "method": "POST",
        "path": "/api/token/verify/",
        "query_string": b"",
        "scheme": "http",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        **scope,
    }
    whole["headers"] = [(b"host", b"localhost"), *scope.get("headers", [])]

    async def talk() -> Any:
        communicator: Any = COMMUNICATOR(outermost.ASGI(application or handler), whole)
        for message in messages:
            await communicator.send_input(message)
        first = await communicator.receive_output(10)
        if "status" not in first:
            return first
        headers = {name.decode().title(): value.decode() for name, value in first["headers"]}
        body = (await communicator.receive_output(10))["body"]
        await communicator.wait()
        return first["status"], headers, body

    return asyncio.run(talk())


def part(body: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


JSON = (b"content-type", b"application/json")


def test_asgi_reads_a_body_without_length() -> None:
    parts = (part(b'{"token":', more=True), part(b' "junk"}'))
    assert_refused(asgi({"headers": [JSON]}, *parts), 401, "token_not_valid")
    assert_refused(asgi({"headers": [JSON, (b"content-length", b"17")]}, *parts), 401, "token_not_valid")


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        ([], [part(b" " * LIMIT, more=True), part(b" ", more=True), part(b" ")]),
        ([(b"content-length", str(LIMIT + 1).encode())], [part(b" ")]),
        ([(b"content-length", b"9" * 5000)], [part(b" ")]),
    ],
)
def test_asgi_refuses_a_body_that_is_too_long(length: Any, parts: Any) -> None:
    assert_refused(asgi({"headers": [JSON, *length]}, *parts), 413, "too_large")


@pytest.mark.parametrize(
    "scope",
    [
        {"query_string": b"\xff"},
        *({"headers": [(b"accept", value.format("a/b").encode())]} for value in MALFORMED),
        {"headers": [(b"content-type", b"a/b; a*=bogus''x")]},
    ],
)
def test_asgi_refuses_unparsable_requests(scope: Any) -> None:
    assert_refused(asgi(scope, part()), 400, "bad_request")


def test_asgi_refuses_an_unparsable_multipart_part() -> None:
    response = asgi({"path": "/api/token/", "headers": [(b"content-type", MULTIPART.encode())]}, part(PART))
    assert_refused(response, 400, "parse_error")


def test_asgi_joins_two_cookie_headers() -> None:
    cookies = [(b"cookie", b"theme=dark"), (b"cookie", b"refreshToken=junk")]
    response = asgi({"path": "/auth/refresh-token", "headers": cookies}, part())
    assert_refused(response, 401, "token_not_valid")


def test_asgi_refuses_websockets_and_passes_the_rest_to_django() -> None:
    assert asgi({"type": "websocket"}, {"type": "websocket.connect"}) == {"type": "websocket.close"}

    async def unused(message: Any = None) -> Any:
        raise AssertionError

    # Called without the communicator, which would wait ten seconds for a message after the error.
    with pytest.raises(ValueError, match="lifespan"):
        asyncio.run(outermost.ASGI(get_asgi_application())({"type": "lifespan"}, unused, unused))


def test_asgi_does_not_answer_a_disconnected_client() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError

    scope = {"type": "http", "headers": []}
    asyncio.run(outermost.ASGI(get_asgi_application())(scope, receive, send))


def test_asgi_error_outside_django_is_json() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    assert_refused(asgi({}, part(), application=broken), 500, "error")


def test_asgi_error_in_mid_response_is_left_to_the_server() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        asgi({}, part(), application=broken)


# Gunicorn's own responses


class Wire:
    """A socket that records what is written to it."""

    def __init__(self) -> None:
        self.written = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.written += data


@pytest.mark.parametrize(
    ("status", "line", "code"),
    [
        (400, "400 Bad Request", "bad_request"),
        (501, "400 Bad Request", "bad_request"),
        (417, "417 Expectation Failed", "bad_request"),
        (414, "414 URI Too Long", "too_large"),
        (431, "431 Request Header Fields Too Large", "too_large"),
        (500, "500 Internal Server Error", "error"),
    ],
)
def test_gunicorns_own_errors_are_json(status: int, line: str, code: str) -> None:
    wire = Wire()
    sock = worker.ErrorSocket(wire)
    assert sock.gettimeout() == 0.0
    sock.sendall(f"HTTP/1.1 {status} x\r\n\r\n<html>".encode())
    head, _, body = wire.written.decode().partition("\r\n\r\n")
    first, *headers = head.split("\r\n")
    assert first == f"HTTP/1.1 {line}"
    assert json.loads(body)["code"] == code
    assert {"X-Content-Type-Options: nosniff", "Connection: close", f"Content-Length: {len(body)}"} <= set(headers)


def test_worker_errors_use_the_same_format() -> None:
    wire, server = Wire(), object.__new__(worker.Worker)
    server.log = logging.getLogger(__name__)
    server.handle_error(None, wire, ("127.0.0.1", 1), ValueError())
    assert wire.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json")


def test_asgi_drops_the_rest_of_a_body_that_is_too_long() -> None:
    """An application that reads past the body gets the client's disconnect, and none of the rest."""
    heard: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gone = {"type": "http.disconnect"}
    asgi(
        {"headers": [JSON]},
        part(b"x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 2)),
        part(b"more"),
        gone,
        application=listening,
    )
    assert heard == ["http.request", "http.disconnect"]
