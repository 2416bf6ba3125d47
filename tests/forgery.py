"""Tokens as an attacker makes them, and as a holder of this server's keys could make them."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tokens.jose import keys

Sign = Callable[[bytes], bytes]


def encode(part: Any) -> str:
    """Encode a segment of a token: bytes unchanged, anything else as JSON."""
    data = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: Any, claims: Any, sign: Sign) -> str:
    message = f"{encode(header)}.{encode(claims)}"
    return f"{message}.{encode(sign(message.encode()))}"


def hs(secret: bytes, digest: str = "sha256") -> Sign:
    return lambda message: hmac.digest(secret, message, digest)


def anybody(message: bytes) -> bytes:
    """Sign with a random key."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"anybody").digest()).sign(message)


def our_access_key(message: bytes) -> bytes:
    private = keys.access_keys()[0].private
    assert isinstance(private, Ed25519PrivateKey)
    return private.sign(message)


def our_refresh_key(message: bytes) -> bytes:
    return hs(keys.refresh_keys()[0])(message)


def access_token(claims: Any, **header: Any) -> str:
    """Sign any claims as this server signs an access token."""
    return forge(
        {"alg": "EdDSA", "kid": keys.access_keys()[0].kid, "typ": "at+jwt"} | header,
        claims,
        our_access_key,
    )


def refresh_token(claims: Any, **header: Any) -> str:
    """Sign any claims as this server signs a refresh token."""
    return forge({"alg": "HS256", "typ": "rt+jwt"} | header, claims, our_refresh_key)
