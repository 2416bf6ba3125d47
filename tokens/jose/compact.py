"""The compact form of a JWS (RFC 7515, section 7.1), read strictly: one spelling for each token, each name once."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

_SEGMENT = r"[A-Za-z0-9_-]+"
_FORM = re.compile(rf"{_SEGMENT}\.{_SEGMENT}\.{_SEGMENT}", re.ASCII)


def check(text: object, max_length: int) -> str:
    """Return the text if it has the form of a compact JWS of at most so many bytes. Raises ValueError."""
    if not isinstance(text, str) or len(text) > max_length or not _FORM.fullmatch(text):
        raise ValueError("not a compact JWS")
    return text


def encode(data: bytes) -> str:
    """Return the bytes in base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(segment: str) -> bytes:
    """Return the bytes of a segment. Its last character may have bits that mean nothing. Raises ValueError."""
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def decode_strictly(segment: str) -> bytes:
    """Return the bytes of a segment in the one canonical spelling. Raises ValueError."""
    data = decode(segment)
    if encode(data) != segment:
        raise ValueError("not the canonical form")
    return data


def parse(data: bytes) -> dict[str, Any]:
    """Parse a JSON object that has each name once. Verifiers disagree which of two counts (RFC 7519, section 4).

    Raises ValueError; RecursionError if it is nested too deeply.
    """
    match _decoder.decode(data.decode()):
        case dict(parsed):
            return parsed
    raise ValueError("not an object")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a name comes twice")
    return parsed


_decoder = json.JSONDecoder(object_pairs_hook=_distinct)
