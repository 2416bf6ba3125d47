"""The keys that sign: asymmetric ones for access tokens, an HMAC one for refresh tokens.

By default both are derived from `SECRET_KEY`, and `SECRET_KEY_FALLBACKS` keeps former ones valid. So rotating keys is
Django's own procedure.
"""

import hashlib
import json
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.encoding import force_bytes
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from ..conf import conf
from .download import download

logger = logging.getLogger(__name__)

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

RSA_MIN_BITS = 2048

KEY_SET_MAX_AGE = 300
"""Seconds after which another server's key set is fetched again."""

COOLDOWN = 10
"""The least seconds between two attempts to fetch it."""

KEY_SET_LENGTH = 256 * 1024
"""The most bytes of another server's key set."""

# The members that identify a key of each type (RFC 7638, section 3.2; RFC 8037, section 2).
THUMBPRINT_MEMBERS = {
    "OKP": ("crv", "kty", "x"),
    "EC": ("crv", "kty", "x", "y"),
    "RSA": ("e", "kty", "n"),
}


@dataclass(frozen=True, eq=False)
class Key:
    """A key of access tokens. Without its private half it only verifies."""

    kid: str
    algorithm: str
    public: PublicKey
    private: PrivateKey | None
    jwk: dict[str, str]
    """The public half as the key set publishes it (RFC 7517)."""


class KeySetUnreachable(Exception):
    """The issuing server does not answer. That says nothing about the token."""


def access_keys() -> Sequence[Key]:
    """Return this server's valid keys; the first signs.

    Raises ImproperlyConfigured with a message that names the file and the fault.
    """
    if conf.signing_keys:
        return _read(tuple(conf.signing_keys))
    return _derive(settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS))


def access_key(kid: object) -> Key | None:
    """Return the key of that name: this server's or, with JWK_URL, the other server's. Raises KeySetUnreachable."""
    if not isinstance(kid, str):
        return None
    if conf.jwk_url:
        return _published(conf.jwk_url).get(kid)
    return next((key for key in access_keys() if key.kid == kid), None)


def refresh_keys() -> Sequence[bytes]:
    """Return the valid secrets; the first signs. They sign no access token and are never published."""
    return [_refresh_key(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def secrets_for(purpose: str) -> Sequence[bytes]:
    """Return 32 bytes derived from each valid secret for this purpose alone, the current secret first."""
    label = f"latchkey {purpose}".encode()
    return [_hkdf(secret, label) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def key_set() -> dict[str, list[dict[str, str]]]:
    """Return the public keys as a JWK Set (RFC 7517, section 5)."""
    return {"keys": [key.jwk for key in access_keys()]}


def thumbprint(members: dict[str, str]) -> str:
    """Return the thumbprint of a JWK's required members (RFC 7638, section 3)."""
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


@lru_cache(maxsize=16)
def _derive(secret: str | bytes, fallbacks: tuple[str | bytes, ...]) -> Sequence[Key]:
    # An Ed25519 private key is any 32 bytes (RFC 8032, section 5.1.5).
    return _distinct(
        _key(Ed25519PrivateKey.from_private_bytes(_hkdf(secret, b"latchkey access token")))
        for secret in (secret, *fallbacks)
    )


def _refresh_key(secret: str | bytes) -> bytes:
    return _hkdf(secret, b"latchkey refresh token")


@lru_cache(maxsize=64)
def _hkdf(secret: str | bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=label).derive(force_bytes(secret))


@lru_cache(maxsize=16)
def _read(paths: tuple[str, ...]) -> Sequence[Key]:
    keys = [_load(path) for path in paths]
    if keys[0].private is None:
        raise ImproperlyConfigured(
            f"The signing key {paths[0]} is a public key. The first key signs tokens, so it must be private."
        )
    return _distinct(keys)


def _distinct(keys: Iterable[Key]) -> Sequence[Key]:
    """Drop repetitions, since a key set names each key once. If both halves of a pair are there, the first stays."""
    kept: dict[str, Key] = {}
    for key in keys:
        kept.setdefault(key.kid, key)
    return tuple(kept.values())


def _load(path: str) -> Key:
    try:
        return _key(_parse(Path(path).read_bytes()))
    except OSError as error:
        raise ImproperlyConfigured(f"The signing key {path} can't be read: {error.strerror}.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ImproperlyConfigured(f"The signing key {path} can't be used: {error}") from error


def _parse(pem: bytes) -> PrivateKey | PublicKey:
    match re.findall(rb"-----BEGIN ([A-Z ]*KEY)-----", pem):
        case [label] if label.endswith(b"PRIVATE KEY"):
            return cast(PrivateKey, serialization.load_pem_private_key(pem, password=None))
        case [_]:
            return cast(PublicKey, serialization.load_pem_public_key(pem))
        case labels:
            # The library would silently take the first of several.
            raise ValueError(f"it contains {len(labels) or 'no'} PEM keys instead of one.")


class _Published:
    """The key set of another server. It is kept for KEY_SET_MAX_AGE, and twice as long while it can't be fetched.

    However many tokens name unknown keys, it is fetched at most once in COOLDOWN.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, Key] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = Lock()

    def get(self, kid: str) -> Key | None:
        """Return the key of that name. Raises KeySetUnreachable.

        Requests for a known key don't wait: one of them renews an old set, and the others use the old one.
        """
        usable = self._is_usable(kid)
        if (self._is_due(kid) or not usable) and self._lock.acquire(blocking=not usable):
            try:
                if self._is_due(kid):  # no other thread has fetched it meanwhile
                    self._tried = monotonic()
                    self._fetch(self._tried)
            finally:
                self._lock.release()
        if self._tried > self._fetched and not self._is_usable(kid):
            raise KeySetUnreachable
        return self._keys.get(kid)

    def _is_usable(self, kid: str) -> bool:
        return kid in self._keys and monotonic() - self._fetched <= 2 * KEY_SET_MAX_AGE

    def _is_due(self, kid: str) -> bool:
        now = monotonic()
        return (kid not in self._keys or now - self._fetched > KEY_SET_MAX_AGE) and now - self._tried > COOLDOWN

    def _fetch(self, now: float) -> None:
        try:
            keys = {
                key.kid: key
                for jwk in json.loads(download(self._url, KEY_SET_LENGTH)[0])["keys"]
                if (key := _verifier(jwk))
            }
        except (HTTPException, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
            logger.warning("The key set %s can't be fetched: %r", self._url, error)
            return
        if not keys:
            logger.warning("The key set %s has no usable key.", self._url)
            return
        self._keys, self._fetched = keys, now


@lru_cache(maxsize=4)
def _published(url: str) -> _Published:
    return _Published(url)


def _verifier(jwk: Any) -> Key | None:
    """Return the key in a key set's member if this app could have published it."""
    match jwk:
        case {"kid": str(kid), "use": "sig", "alg": "EdDSA" | "ES256" | "RS256" as algorithm}:
            try:
                key = _key(PyJWK(jwk).key)
            except (PyJWTError, ValueError):
                return None
            # Everybody who can read a private half can sign with it.
            usable = key.private is None and key.algorithm == algorithm
            return replace(key, kid=kid) if usable else None
    return None


def _key(key: PrivateKey | PublicKey) -> Key:
    if isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
        private, public = key, key.public_key()
    else:
        private, public = None, key
    jwk: dict[str, Any]
    match public:
        case Ed25519PublicKey():
            algorithm, jwk = "EdDSA", OKPAlgorithm.to_jwk(public, as_dict=True)
        case EllipticCurvePublicKey(curve=SECP256R1()):
            algorithm, jwk = "ES256", ECAlgorithm.to_jwk(public, as_dict=True)
        case RSAPublicKey(key_size=bits) if bits >= RSA_MIN_BITS:
            algorithm, jwk = "RS256", RSAAlgorithm.to_jwk(public, as_dict=True)
        case _:
            raise ValueError(f"it must be Ed25519, P-256, or RSA with {RSA_MIN_BITS} bits or more.")
    members = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    kid = thumbprint(members)
    return Key(kid, algorithm, public, private, {**members, "kid": kid, "use": "sig", "alg": algorithm})
