"""The security log: what the signals announce, kept as rows for the owner of the account.

The same facts go to the logger `latchkey.security`, a JSON object a line, for whoever watches over all accounts.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connections, router, transaction
from django.dispatch import receiver
from django.utils import timezone

from .. import signals
from ..models import Kind, Reason, SecurityEvent, Session, User, uuid7_floor
from . import limits
from .outages import retried
from .sessions import UNKNOWN, Client

logger = logging.getLogger("latchkey.security")

KINDS = {
    Reason.LOGOUT: Kind.LOGOUT,
    Reason.LOGOUT_ALL: Kind.LOGOUT,
    Reason.REUSED: Kind.TOKEN_REUSED,
}
"""What a revocation is called in the log, where it is not just that."""


def record(kind: str, user: User, client: Client = UNKNOWN, session: Session | None = None) -> None:
    """Write a line; in a transaction with what it tells of, so that neither is there without the other."""
    _write([_event(kind, user.pk, client, session)])


def _write(events: Iterable[SecurityEvent]) -> None:
    written = SecurityEvent.objects.bulk_create(events)
    transaction.on_commit(partial(_tell, written))


def _tell(events: Iterable[SecurityEvent]) -> None:
    for event in events:
        facts = {
            "event": event.kind,
            "user": event.user_id,
            "session": event.session and str(event.session),
            "address": event.ip_address,
            "agent": event.user_agent,
        }
        if event.reason:
            facts["reason"] = event.reason
        logger.info(json.dumps(facts, default=str), extra={"event": event.kind})


def _event(kind: str, user_id: Any, client: Client, session: Session | None, reason: str = "") -> SecurityEvent:
    return SecurityEvent(
        kind=kind,
        user_id=user_id,
        session=session.pk if session else None,
        ip_address=client.ip_address,
        user_agent=client.user_agent,
        reason=reason,
    )


@receiver(signals.session_started)
def record_login(session: Session, client: Client, evicted: list[Session], **kwargs: Any) -> None:
    events = [_event(Kind.SESSION_REVOKED, session.user_id, client, ended, Reason.CAP) for ended in evicted]
    _write([*events, _event(Kind.LOGIN, session.user_id, client, session)])


@receiver(signals.session_reauthenticated)
def record_reauthentication(session: Session, client: Client, **kwargs: Any) -> None:
    record(Kind.REAUTHENTICATED, session.user, client, session)


@receiver(signals.sessions_revoked)
def record_revocation(sessions: list[Session], reason: Reason, client: Client, **kwargs: Any) -> None:
    if reason == Reason.CAP:
        return  # These come with the login that they made room for, in its one statement.
    kind = KINDS.get(reason, Kind.SESSION_REVOKED)
    _write(_event(kind, session.user_id, client, session, reason) for session in sessions)


@retried
def record_failed_login(name: Any, client: Client) -> None:
    """Count the failure in the account's row of this hour. None for an unknown name, so that nobody fills the table."""
    try:
        user = get_user_model()._default_manager.get_by_natural_key(name)
    except get_user_model().DoesNotExist:
        # A known name's failure is a write that is waited for.
        limits.pretend(str(name))
        _tell([_event(Kind.LOGIN_FAILED, None, client, None)])
        return
    row = _event(Kind.LOGIN_FAILED, user.pk, client, None)
    row.id = _id_of_hour(user)
    try:
        _count(row)
    except IntegrityError:
        return  # the user was deleted in this moment
    _tell([row])


def _count(row: SecurityEvent) -> None:
    """Write the row, or count one more where it is, by one statement: the first of an hour takes no other work."""
    connection = connections[router.db_for_write(SecurityEvent)]
    quote, fields = connection.ops.quote_name, SecurityEvent._meta.concrete_fields
    table, names = quote(SecurityEvent._meta.db_table), {field.name: quote(str(field.column)) for field in fields}
    seen = ", ".join(f"{names[name]} = EXCLUDED.{names[name]}" for name in ("created_at", "ip_address", "user_agent"))
    statement = (
        f"INSERT INTO {table} ({', '.join(names.values())}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608 (names of columns alone)
        f"ON CONFLICT ({names['id']}) DO UPDATE SET {names['count']} = {table}.{names['count']} + 1, {seen}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields])


def _id_of_hour(user: User) -> UUID:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    digest = hashlib.sha256(f"{Kind.LOGIN_FAILED}:{user.pk}".encode()).digest()
    return UUID(int=uuid7_floor(hour).int | int.from_bytes(digest[:7], "big"))
