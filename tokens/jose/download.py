"""Downloads what another server publishes: bounded in bytes and time, and from the configured address alone."""

from collections.abc import Mapping
from http.client import HTTPMessage
from time import monotonic
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

TIMEOUT = 5
"""Seconds, in total and for each step."""


class NoRedirect(HTTPRedirectHandler):
    """Follow no redirect: only the configured address counts."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def download(url: str, length: int, headers: Mapping[str, str] | None = None) -> tuple[bytes, HTTPMessage]:
    """Return what is there, `length` bytes at most, and its headers. Raises OSError, HTTPException or ValueError."""
    if not url.startswith(("https://", "http://")):  # the opener would open files, too
        raise ValueError("it is not an http or https URL")
    body, end = b"", monotonic() + TIMEOUT
    asked = Request(url, headers=dict(headers or {}))  # noqa: S310 (an operator's setting)
    with build_opener(NoRedirect).open(asked, timeout=TIMEOUT) as answer:
        while chunk := answer.read1(length):
            body += chunk
            if len(body) > length:
                raise ValueError(f"it is longer than {length} bytes")
            if monotonic() > end:
                raise TimeoutError(f"it takes more than {TIMEOUT} seconds")
        return body, answer.headers
