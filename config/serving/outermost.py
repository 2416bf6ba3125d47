"""The layer around Django, for WSGI and ASGI, which sees a request before Django makes an object of it.

Python's parsers raise on some headers, and Django calls them before any middleware. So such headers are removed here,
and `config.serving.middleware.Refusals` answers, with the headers that every answer has.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters

logger = logging.getLogger(__name__)

REFUSAL = "latchkey.refusal"
"""The key of an environ or scope that says why the request is refused: "malformed" or "no_length"."""

PARAMETERS = ("content-type", "accept", "content-disposition")
"""The headers whose parameters Python parses (RFC 2231)."""

SECOND_LINE = re.compile(r",(?=[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+=)")
"""A comma by which a server has joined two Cookie lines, as HTTP/1.1 joins other headers."""

UNPARSABLE = (ValueError, TypeError, LookupError)
"""The errors of Python's parser of parameters: TypeError if it sorts `a*` and `a*0`."""

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def is_parsable(header: str) -> bool:
    """Return whether Python can parse each member of the header."""
    if "*" not in header.partition(";")[2]:
        return True  # only parameters of RFC 2231 make it fail
    try:
        for member in (header, *header.split(",")):
            parse_header_parameters(member)
    except UNPARSABLE:
        return False
    return True


def is_too_long(length: str) -> bool:
    """Return whether a Content-Length is above the limit."""
    # Python refuses to parse more than 4300 digits.
    return length.isdecimal() and (len(length) > 18 or int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def refusal(request: HttpRequest) -> str | None:
    """Return why the request is refused, if it is."""
    reason: str | None = (request.scope if isinstance(request, ASGIRequest) else request.META).get(REFUSAL)
    return reason


def failure() -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the answer to an unforeseen error."""
    body = {"detail": "A server error occurred.", "code": "error"}
    return headers_for("application/json"), json.dumps(body).encode()


def headers_for(content_type: str) -> dict[str, str]:
    """Return the headers of an answer that bypasses the middleware."""
    return {
        "Content-Type": content_type,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
        "Content-Security-Policy": "frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }


def below(path: str) -> str:
    """Return the path without PUBLIC_URL's path, which a proxy strips or passes on."""
    root: str = settings.FORCE_SCRIPT_NAME or ""
    return path.removeprefix(root) if root and f"{path}/".startswith(f"{root}/") else path


class PartsParsed:
    """Answer 400 to a multipart body with a part whose header can't be parsed; Django's parser lets TypeError pass."""

    def parse_file_upload(self, META: Any, post_data: Any) -> Any:  # noqa: N803 (Django's name)
        try:
            return super().parse_file_upload(META, post_data)  # type: ignore[misc]
        except UNPARSABLE as error:
            self._mark_post_parse_error()  # type: ignore[attr-defined]
            raise MultiPartParserError("A part has a malformed header.") from error


class Request(PartsParsed, WSGIRequest):
    pass


class AsyncRequest(PartsParsed, ASGIRequest):
    pass


class WSGI:
    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = below(environ.get("PATH_INFO", ""))
        for name in PARAMETERS:
            key = "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
            if not is_parsable(environ.get(key, "")):
                environ |= {key: "", REFUSAL: "malformed"}
        if "HTTP_COOKIE" in environ:
            environ["HTTP_COOKIE"] = SECOND_LINE.sub(";", environ["HTTP_COOKIE"])
        if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
            self._read_chunks(environ)
        try:
            return self.application(environ, start_response)
        except Exception:
            logger.exception("A request failed outside of Django.")
            headers, body = failure()
            start_response("500 Internal Server Error", [*headers.items(), ("Content-Length", str(len(body)))])
            return [body]

    @staticmethod
    def _read_chunks(environ: WSGIEnvironment) -> None:
        """Give a chunked body the length that Django needs. A body that is too long is read only that far.

        If it is malformed, the server's own reader raises, and the server answers.
        """
        if environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        else:
            # Its end can't be found.
            environ[REFUSAL] = "no_length"


class ASGI:
    def __init__(self, application: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # 403: there is no WebSocket here
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(scope["headers"], receive)
        if body is None:
            return  # the client has gone
        started, given = False, False

        async def receive_read() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            message = await receive()
            while message["type"] == "http.request":  # the rest of a body that is too long
                message = await receive()
            return message

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.application(_clean(scope, len(body)), receive_read, send_on)
        except Exception:
            if started:
                raise
            logger.exception("A request failed outside of Django.")
            headers, body = failure()
            pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 500, "headers": pairs})
            await send({"type": "http.response.body", "body": body})


def _clean(scope: Scope, length: int) -> Scope:
    """Return the scope without headers that Django can't parse, with the body's length and one Cookie line."""
    headers, cookies, reasons = [], [], {}
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.append(value)
        elif name.decode("latin-1") in PARAMETERS and not is_parsable(value.decode("latin-1")):
            reasons = {REFUSAL: "malformed"}
        elif name != b"content-length" or is_too_long(value.decode("latin-1")):
            headers.append((name, value))
    if not _is_too_long(headers):
        headers.append((b"content-length", str(length).encode()))
    if cookies:
        headers.append((b"cookie", b"; ".join(cookies)))
    query: bytes = scope.get("query_string", b"")
    if not _is_utf8(query):
        query, reasons = b"", {REFUSAL: "malformed"}
    path = (settings.FORCE_SCRIPT_NAME or "") + (below(scope["path"]) or "/")
    return {**scope, "path": path, "headers": headers, "query_string": query, **reasons}


async def _read(headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes | None:
    """Return the body, read only until it is too long; None if the client has gone."""
    body, more = bytearray(), not _is_too_long(headers)
    while more and len(body) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _is_too_long(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    lengths = [value for name, value in headers if name == b"content-length"]
    return any(is_too_long(value.decode("latin-1")) for value in lengths)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
