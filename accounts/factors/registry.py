"""All factors, and what applies to them together. TOKENS_SECOND_FACTOR names this module.

Tries are counted by account and network, for all factors together, before an answer is verified.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.db import IntegrityError

from tokens.domain import events, limits, signing_in
from tokens.domain.client import Client
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid, TooManyTries

from .. import kinds
from ..models import User
from . import codes, passkeys, recovery_codes
from .factor import CodeNotValid, Factor

FACTORS: Sequence[Factor] = (passkeys, codes)
"""The second factors that an account can have. Any of them is enough to have one."""

BACKUP: Factor = recovery_codes
"""Added with the first factor, removed with the last."""


def since(user: User) -> datetime | None:
    """Return when the user got a second factor; None for a user without one."""
    return min(filter(None, (factor.since(user) for factor in FACTORS)), default=None)


def methods(user: User) -> list[str] | None:
    """Name the methods that the user can answer by: None if the password is enough, an empty list if all are off."""
    had = [factor for factor in FACTORS if factor.since(user)]
    if not had:
        return None
    return [factor.METHOD for factor in (*had, BACKUP) if factor.usable() and factor.since(user)]


def options(user: User, challenge: str) -> Mapping[str, Any]:
    joined: dict[str, Any] = {}
    for factor in FACTORS:
        if factor.usable() and factor.since(user):
            joined |= factor.options(user, challenge)
    return joined


def verify(user: User, answer: Answer, client: Client) -> Sequence[str]:
    """Use the answer up; return how the user has signed in (RFC 8176). The password has been verified.

    Once no try is left, a mail warns the owner that somebody knows the password. Raises AnswerNotValid or TooManyTries.
    """
    buckets = spend(user, client)
    refusal: type[AnswerNotValid] = CodeNotValid
    for factor in (*FACTORS, BACKUP):
        if factor.FIELD in answer and factor.usable():
            refusal = factor.NOT_VALID
            if amr := factor.use(user, answer, client):
                limits.clear(*buckets)
                return amr
    with suppress(IntegrityError):  # the user has just been deleted
        events.announce(kinds.SECOND_FACTOR_FAILED, user, client)
        if any(limits.is_spent(*bucket) for bucket in buckets):
            _warn(user, client)
    raise refusal


def spend(user: User, client: Client) -> Sequence[tuple[str, ...]]:
    """Take one of the user's tries, and return the buckets to clear after a right one. Raises TooManyTries."""
    return signing_in.spend("code", str(user.pk), client, lambda: user)


def _warn(user: User, client: Client) -> None:
    with suppress(TooManyTries):  # the owner was warned a short while ago
        limits.spend("code_notice", str(user.pk))
        events.announce(kinds.SECOND_FACTOR_GUESSED, user, client)


def joined(user: User, factor: Factor) -> list[str] | None:
    """Return the recovery codes that come with the factor, if it is the first that the user has.

    Call it in the transaction that gave the user the factor.
    """
    others = (other for other in FACTORS if other is not factor)
    return None if any(other.since(user) for other in others) else recovery_codes.issue(user)


def left(user: User, factor: Factor) -> bool:
    """Remove the recovery codes if the removed factor was the last; return whether it was.

    Call it in the transaction that removed the factor.
    """
    others = (other for other in FACTORS if other is not factor)
    if any(other.since(user) for other in others):
        return False
    BACKUP.remove(user)
    return True


def remove_all(user: User) -> bool:
    """Remove all factors of the user; return whether there was one."""
    removed = [factor.remove(user) for factor in FACTORS]
    BACKUP.remove(user)
    return any(removed)
