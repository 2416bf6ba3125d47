"""The challenges that passkeys sign: signed texts for one purpose, which are not stored.

A passkey's row says when the last challenge that it answered was issued, so it answers none twice.
"""

from datetime import timedelta
from secrets import token_hex
from time import time_ns
from typing import Any, NamedTuple

from django.core import signing

from tokens.domain.signing_in import issued_at
from tokens.exceptions import ChallengeNotValid

SALT = __name__

REGISTER, LOGIN, RENEW = "register", "login", "renew"

LIFETIMES = {REGISTER: timedelta(minutes=5), LOGIN: timedelta(minutes=10), RENEW: timedelta(minutes=5)}


class Challenge(NamedTuple):
    text: str
    issued_at: int
    """Microseconds since the epoch. A passkey answers no challenge older than the last one that it answered."""

    claims: dict[str, Any]


def issue(purpose: str, **claims: str) -> Challenge:
    claims |= {"for": purpose, "nonce": token_hex(16)}
    now = time_ns() // 1000
    return Challenge(signing.dumps({**claims, "at": now}, salt=SALT), now, claims)


def read(text: str, purpose: str, **expected: str) -> Challenge:
    """Return the challenge, if it is ours, valid, for that purpose, and with the expected claims.

    Raises ChallengeNotValid.
    """
    try:
        claims = signing.loads(text, salt=SALT, max_age=LIFETIMES[purpose])
    except (signing.BadSignature, UnicodeEncodeError) as error:  # (a lone surrogate can't be encoded)
        raise ChallengeNotValid from error
    if any(claims.get(name) != value for name, value in {**expected, "for": purpose}.items()):
        raise ChallengeNotValid
    return Challenge(text, claims["at"], claims)


def of_login(text: str) -> Challenge:
    """Return the challenge of a login's second step. The login has verified it."""
    return Challenge(text, issued_at(text), {})
