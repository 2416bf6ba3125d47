"""The two kinds of JWT: how each is signed, and what is checked before its claims are used."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from time import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils.crypto import constant_time_compare
from jwt.algorithms import get_default_algorithms
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from ..conf import conf, resolve
from . import compact, keys, simplejwt

logger = logging.getLogger(__name__)

MAX_LENGTH = 4096
"""Bytes. Longer tokens are refused before they are parsed, and never issued."""

MAX_CLAIMS = 1500
"""Bytes that a project's own claims may have in the tokens of a session, as JSON."""

RESERVED = (
    "iss",
    "sub",
    "aud",
    "client_id",
    "sid",
    "jti",
    "iat",
    "exp",
    "auth_time",
    "generation",
    "token_type",
    "amr",
    "cnf",
)
"""The claims that follow from the session, so a project can't set them."""

REMEMBERED = 10_000
"""Genuine access tokens that each process remembers, in 5 MB; 32 MB if all are as long as they may be."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far the clock of the issuing server may be ahead."""

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID in its one canonical spelling (RFC 9562, section 4)."""

LAST_TIMESTAMP = 253402300799
"""The last second of the year 9999, the last year of Python's dates."""

LAST_GENERATION = 2**31 - 1
"""The greatest value of the column."""

_algorithms = get_default_algorithms()


def _is_printable(value: object) -> bool:
    # Lone surrogates, for example, can't be encoded.
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_timestamp(value: object) -> bool:
    return type(value) is int and 0 <= value <= LAST_TIMESTAMP


def _is_generation(value: object) -> bool:
    return type(value) is int and 0 <= value <= LAST_GENERATION


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def _is_audience_claim(value: object) -> bool:
    return _is_printable(value) or (isinstance(value, list) and all(map(_is_printable, value)))


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_string, value))


def _is_key(value: object) -> bool:
    # The way we bind tokens (RFC 9449, section 6.1). We could not check any other.
    match value:
        case {"jkt": str(jkt), **rest}:
            return jkt != "" and not rest
    return False


class Backend(TokenBackend):
    """Sign and check one kind of token.

    `decode` returns the claims of a token that is genuine, of this kind and issuer, complete and unexpired. It raises
    SimpleJWT's TokenBackendError, or TokenBackendExpiredToken if the token has only expired.
    """

    token_type: str
    header_type: str
    required: Mapping[str, Callable[[object], bool]] = {
        "iss": _is_printable,
        "sub": _is_printable,
        "sid": _is_uuid,
        "jti": _is_printable,
        "iat": _is_timestamp,
        "exp": _is_timestamp,
        "generation": _is_generation,
        "token_type": _is_printable,
    }

    def __init__(self) -> None:
        """Store nothing: keys and settings are read when they are used."""

    def get_leeway(self) -> timedelta:
        return conf.leeway

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        try:
            text = _compact(token)
            claims = self._read(text) if verify else compact.parse(_payload(text))
        except (ValueError, RecursionError) as error:
            raise TokenBackendError("The token is not valid.") from error
        if verify:
            self._check(claims)
        return claims

    def _read(self, token: str) -> dict[str, Any]:
        """Return the claims of a genuine, complete token. Raises ValueError, RecursionError or TokenBackendError."""
        if not self._is_signed(token, _header(token.partition(".")[0])):
            raise ValueError("no key of ours has signed it")
        claims = compact.parse(_payload(token))
        for name, is_well_formed in self.required.items():
            if not is_well_formed(claims.get(name)):
                raise TokenBackendError(f"The claim {name} is missing or malformed.")
        return claims

    def _is_signed(self, token: str, header: Mapping[str, Any]) -> bool:
        """Return whether one of the keys made the signature; the header never chooses the algorithm."""
        raise NotImplementedError

    def _check(self, claims: dict[str, Any]) -> None:
        """Check what depends on the settings and on the time."""
        if claims["token_type"] != self.token_type or claims["iss"] != conf.issuer:
            raise TokenBackendError("The token is of another kind or issuer.")
        now, leeway = time(), conf.leeway.total_seconds()
        if claims["iat"] > now + max(leeway, CLOCK_SKEW.total_seconds()):
            raise TokenBackendError("The token is from the future.")
        if claims["exp"] <= now - leeway:
            raise TokenBackendExpiredToken("The token has expired.")


class AccessBackend(Backend):
    """The access token of RFC 9068: asymmetric, so that any service can verify it and only this server can make it."""

    token_type = "access"
    header_type = "at+jwt"
    required = {
        **Backend.required,
        "aud": _is_audience_claim,
        "client_id": _is_printable,
        "auth_time": _is_timestamp,
        "amr": _is_strings,
        "username": _is_string,
        "is_staff": _is_flag,
        "is_superuser": _is_flag,
        "groups": _is_strings,
    }

    def encode(self, payload: dict[str, Any]) -> str:
        """Sign the claims, without the groups if these make the token too long.

        Raises ValueError if it is still too long.
        """
        token = self._sign(payload)
        if len(token) > MAX_LENGTH:
            logger.warning("The groups of user %s don't fit into an access token, so it has none.", payload.get("sub"))
            token = self._sign({**payload, "groups": []})
        if len(token) > MAX_LENGTH:
            raise ValueError(f"The access token would be longer than {MAX_LENGTH} bytes.")
        return token

    def _sign(self, payload: dict[str, Any]) -> str:
        key, encoder = keys.access_keys()[0], resolve(conf.json_encoder)
        head = _head(self.header_type, key.algorithm, kid=key.kid)
        token = _sign(head, payload, key.private, key.algorithm, encoder)
        _signed.add(token, key)
        return token

    def _is_signed(self, token: str, header: Mapping[str, Any]) -> bool:
        # Exactly what we write. `jwk`, `jku`, `x5u`, `x5c` and `crit` would let the token say how to verify it.
        if header.keys() != {"alg", "typ", "kid"} or header["typ"] != self.header_type:
            return False
        key = keys.access_key(header["kid"])
        return key is not None and header["alg"] == key.algorithm and _signed.has(token, key)

    def _read(self, token: str) -> dict[str, Any]:
        payload = _signed.payload(token)
        if payload:
            known: dict[str, Any] = json.loads(payload)
            return known
        claims = super()._read(token)
        if "cnf" in claims and not _is_key(claims["cnf"]):
            raise TokenBackendError("The token is bound to something else than a key.")
        _signed.keep_payload(token)
        return claims

    def _check(self, claims: dict[str, Any]) -> None:
        super()._check(claims)
        if not _as_set(claims["aud"]) & _as_set(conf.audience):
            raise TokenBackendError("The token is for another audience.")


class RefreshBackend(Backend):
    """The refresh token: symmetric, because only this server reads it."""

    token_type = "refresh"
    header_type = "rt+jwt"
    algorithm = "HS256"

    def encode(self, payload: dict[str, Any]) -> str:
        return _sign(_head(self.header_type, self.algorithm), payload, keys.refresh_keys()[0], self.algorithm)

    def _is_signed(self, token: str, header: Mapping[str, Any]) -> bool:
        if header != {"alg": self.algorithm, "typ": self.header_type}:
            return False
        return any(_is_genuine(token, key, self.algorithm) for key in keys.refresh_keys())


class Signed:
    """The access tokens that this process has signed, or whose signatures it has verified, by their digests.

    Cached, since clients use a token many times and a valid signature stays valid. Once a token was read, its payload
    is cached too, and only parsed from then on. What can change is checked each time: whether the key is still in use,
    the issuer, the audience and the times. Refused tokens are not cached.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[keys.Key, bytes]] = {}

    def has(self, token: str, key: keys.Key) -> bool:
        """Return whether the key has signed the token."""
        known = self.known.get(_digest(token))
        if known and known[0] is key:
            return True
        if not _is_signature_of(key, token):
            return False
        self.add(token, key)
        return True

    def add(self, token: str, key: keys.Key) -> None:
        """Remember that the key has signed the token."""
        if len(self.known) >= REMEMBERED:
            self.known.clear()
        self.known[_digest(token)] = key, b""

    def payload(self, token: str) -> bytes:
        """Return the payload of a token that was read before and whose key is in use, else nothing."""
        key, payload = self.known.get(_digest(token), (None, b""))
        return payload if key and keys.access_key(key.kid) is key else b""

    def keep_payload(self, token: str) -> None:
        """Remember the payload of a genuine and complete token."""
        digest = _digest(token)
        if known := self.known.get(digest):  # another thread may have emptied the cache
            self.known[digest] = known[0], _payload(token)


def _is_signature_of(key: keys.Key, token: str) -> bool:
    if not isinstance(key.private, Ed25519PrivateKey):
        return _is_genuine(token, key.public, key.algorithm)
    # Ed25519 has one signature for each content (RFC 8032, section 5.1.6), and making it takes a third of the time that
    # verifying does. Compared in constant time, so that nobody learns the right one.
    signed, _, signature = token.rpartition(".")
    return constant_time_compare(signature, _signature(signed, key.private, key.algorithm))


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


_signed = Signed()


access = AccessBackend()
refresh = RefreshBackend()


def is_refresh(token: str) -> bool:
    """Return whether the token says that it is a refresh token. It is not verified."""
    try:
        typ = _header(_compact(token).split(".")[0]).get("typ")
    except (ValueError, RecursionError):
        typ = None
    return bool(typ == RefreshBackend.header_type or simplejwt.kind(token) == RefreshBackend.token_type)


def encode_claims(claims: Mapping[str, Any]) -> str:
    """Return a project's own claims as the JSON that a session keeps, in ASCII.

    The project's encoder is called once. Its output is parsed and written again as plain JSON, as each token will have
    it. Raises ValueError if that is longer than MAX_CLAIMS bytes or no JSON, like NaN, and TypeError for values that
    can't be encoded.
    """
    plain = json.loads(json.dumps(claims, cls=resolve(conf.json_encoder), allow_nan=False))
    text = json.dumps(plain, separators=(",", ":"))
    if len(text) > MAX_CLAIMS:
        raise ValueError(f"The claims {', '.join(plain)} take {len(text)} bytes; the maximum is {MAX_CLAIMS}.")
    return text


def _sign(head: str, payload: Mapping[str, Any], key: Any, algorithm: str, encoder: Any = None) -> str:
    signed = f"{head}.{_segment(dict(payload), encoder)}"
    return f"{signed}.{_signature(signed, key, algorithm)}"


def _signature(signed: str, key: Any, algorithm: str) -> str:
    return compact.encode(_algorithms[algorithm].sign(signed.encode(), key))


@lru_cache(maxsize=16)
def _head(typ: str, algorithm: str, **kid: str) -> str:
    return _segment({"typ": typ, "alg": algorithm, **kid})


def _segment(members: dict[str, Any], encoder: type[json.JSONEncoder] | None = None) -> str:
    return compact.encode(json.dumps(members, separators=(",", ":"), cls=encoder).encode())


def _is_genuine(token: str, key: Any, algorithm: str) -> bool:
    """Return whether the key has signed the token. Raises ValueError for a signature that has another spelling."""
    signed, _, signature = token.rpartition(".")
    return _algorithms[algorithm].verify(signed.encode(), key, compact.decode_strictly(signature))


def _compact(token: Any) -> str:
    """Return the token as text if it has the form of a compact JWS (RFC 7515, section 7.1).

    Any other form, such as one with padding, would be a second spelling of the token.
    """
    return compact.check(token.decode("ascii") if isinstance(token, bytes) else token, MAX_LENGTH)


def _payload(token: str) -> bytes:
    return compact.decode_strictly(token.split(".")[1])


@lru_cache(maxsize=16)
def _header(segment: str) -> Mapping[str, Any]:
    """Parse the first segment, which is the same in all tokens of a key."""
    return compact.parse(compact.decode_strictly(segment))


def _as_set(audience: Any) -> set[str]:
    return {audience} if isinstance(audience, str) else set(audience)
