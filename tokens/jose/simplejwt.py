"""Verifies the tokens that SimpleJWT signed, as TOKENS_LEGACY describes. No new token is signed this way."""

from datetime import datetime
from time import time
from typing import Any, NamedTuple

from django.utils.timezone import get_default_timezone, is_naive, make_aware
from jwt.api_jws import PyJWS
from jwt.exceptions import InvalidKeyError

from .. import times
from ..conf import conf
from ..exceptions import TokenExpired, TokenNotValid
from . import compact

MAX_LENGTH = 8192
"""Bytes. SimpleJWT has no limit, but servers limit the length of a header."""

LAST_TIMESTAMP = 253402300799
"""The last second of the year 9999, the last year of Python's dates."""

KINDS = ("refresh", "access")

_jws = PyJWS()


class Former(NamedTuple):
    """The content of a genuine, unexpired token."""

    kind: str
    jti: str
    user: str
    """The value of the user's USER_ID_FIELD."""

    issued_at: int
    expires_at: int
    """Both in seconds since the epoch."""

    payload: dict[str, Any]


def kind(token: Any) -> str:
    """Return the kind that the token claims: "refresh" or "access"; "" if it is not SimpleJWT's or such tokens are off.

    It is not verified.
    """
    if conf.legacy is None:
        return ""
    try:
        header, payload, _ = _segments(token)
        claimed = compact.parse(payload).get("token_type") if compact.parse(header).get("typ") == "JWT" else ""
    except (ValueError, RecursionError):
        return ""
    return claimed if claimed in KINDS else ""


def read(token: Any) -> Former:
    """Return the token's content, if it is genuine, issued before UNTIL, and unexpired.

    Raises TokenExpired or TokenNotValid.
    """
    settings = conf.legacy or {}
    try:
        header, payload, signature = _segments(token)
        # The header never chooses the algorithm.
        genuine = compact.parse(header) == {"alg": settings["ALGORITHM"], "typ": "JWT"} and _verify(
            token, signature, settings
        )
        former = _former(compact.parse(payload), settings)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TokenNotValid from error
    now, leeway = time(), conf.leeway.total_seconds()
    ahead = now + max(leeway, times.CLOCK_SKEW.total_seconds())
    if not genuine or former.issued_at > ahead or former.issued_at >= until(settings["UNTIL"]).timestamp():
        raise TokenNotValid
    if former.expires_at <= now - leeway:
        raise TokenExpired
    return former


def until(moment: datetime) -> datetime:
    """Return the time with a zone: the local zone, if it has none."""
    return make_aware(moment, get_default_timezone()) if is_naive(moment) else moment


def key(settings: Any) -> tuple[Any, Any]:
    """Return the algorithm and its verifying key. Raises ValueError for invalid ones."""
    name = settings["ALGORITHM"]
    try:
        algorithm = _jws.get_algorithm_by_name(name)
        text = settings["SIGNING_KEY" if name.startswith("HS") else "VERIFYING_KEY"]
        if not text:
            raise ValueError(f"there is no key for {name}")
        return algorithm, algorithm.prepare_key(text)
    except (InvalidKeyError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{name} can't be verified: {error}") from error


def _segments(token: Any) -> tuple[bytes, bytes, bytes]:
    text = token.decode("ascii") if isinstance(token, bytes) else token
    header, payload, signature = compact.check(text, MAX_LENGTH).split(".")
    return compact.decode(header), compact.decode(payload), compact.decode_strictly(signature)


def _verify(token: Any, signature: bytes, settings: Any) -> bool:
    signed = token if isinstance(token, bytes) else token.encode()
    algorithm, prepared = key(settings)
    return bool(algorithm.verify(signed.rpartition(b".")[0], prepared, signature))


def _former(claims: dict[str, Any], settings: Any) -> Former:
    """Raises KeyError or ValueError for claims that SimpleJWT would not have issued."""
    user = claims[settings["USER_ID_CLAIM"]]
    issued_at, expires_at = claims["iat"], claims["exp"]
    audience, issuer = _as_set(settings["AUDIENCE"]), _as_set(settings["ISSUER"])
    if (
        claims["token_type"] not in KINDS
        or not all(type(moment) is int and 0 <= moment <= LAST_TIMESTAMP for moment in (issued_at, expires_at))
        or not (isinstance(claims["jti"], str) and claims["jti"].isprintable() and claims["jti"])
        or not (type(user) is int or (isinstance(user, str) and user.isprintable() and user))
        or (audience and not audience & _as_set(claims.get("aud")))
        or (issuer and claims.get("iss") not in issuer)
    ):
        raise ValueError("no token of SimpleJWT's")
    return Former(claims["token_type"], claims["jti"], str(user), issued_at, expires_at, claims)


def _as_set(value: Any) -> set[Any]:
    if value is None:
        return set()
    return {value} if isinstance(value, str) else set(value)
