"""Remembers when all sessions of a user were ended. SimpleJWT's tokens have no row that could show it.

It stores nothing unless TOKENS_LEGACY accepts such tokens.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, router
from django.db.models import Q, QuerySet
from django.utils.crypto import constant_time_compare

from .. import times
from ..conf import conf
from ..exceptions import TokenRevoked
from ..models import Cutoff, Session, User, fingerprints

NEVER = datetime.fromtimestamp(0, UTC)


def are_kept() -> bool:
    return conf.legacy is not None


def end(user: User) -> None:
    """End all tokens that were issued to the user up to now."""
    if are_kept():
        _end(user, times.now())


def end_everybodys() -> None:
    """End all tokens that were issued to any user up to now."""
    _cutoffs().create(user=None, at=times.now(), auth_hash="")


def note_change(before: User) -> None:
    """Record that the user is about to be saved with another password hash, maybe of the same password."""
    cutoff = Cutoff(user_id=before.pk, at=NEVER, auth_hash=before.get_session_auth_hash(), changed_at=times.now())
    _write(cutoff, "changed_at")


def check(user: User, issued_at: int) -> None:
    """Raise TokenRevoked if the user's tokens of that second (since the epoch) have been ended.

    A password change that bypassed `save()` counts if a token of the user was seen before the change.
    """
    cutoffs = list(_cutoffs().filter(Q(user_id=user.pk) | Q(user=None)))
    own = next((cutoff for cutoff in cutoffs if cutoff.user_id is not None), None)
    if own is None:
        _write(Cutoff(user_id=user.pk, at=NEVER, auth_hash=user.get_session_auth_hash()))
    elif not any(constant_time_compare(own.auth_hash, known) for known in fingerprints(user)):
        own.at = own.changed_at or times.now()
        _end(user, own.at)
    if any(issued_at <= cutoff.at.timestamp() for cutoff in cutoffs):
        raise TokenRevoked


def renew_auth_hash(user: User, former: Collection[str]) -> None:
    """Keep the user's tokens when the same password gets another hash."""
    if are_kept():
        kept = _cutoffs().filter(user_id=user.pk, auth_hash__in=former)
        kept.update(auth_hash=user.get_session_auth_hash(), changed_at=None)


def _end(user: User, at: datetime) -> None:
    _write(Cutoff(user_id=user.pk, at=at, auth_hash=user.get_session_auth_hash()), "at", "auth_hash", "changed_at")


def _write(cutoff: Cutoff, *changes: str) -> None:
    """Insert the user's row, or update the one that is there."""
    options: dict[str, Any] = {"ignore_conflicts": True}
    if changes:
        options = {"update_conflicts": True, "unique_fields": ["user"], "update_fields": changes}
    try:
        _cutoffs().bulk_create([cutoff], **options)
    except IntegrityError as error:  # the user has just been deleted
        raise TokenRevoked from error


def _cutoffs() -> QuerySet[Cutoff]:
    return Cutoff.objects.using(router.db_for_write(Session))
