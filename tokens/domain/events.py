"""Announces what happens to accounts. The table of kinds says what becomes of each event.

Each event is one line of JSON in the logger `latchkey.security`, for operators. Most are also a row for the account's
owner. Other apps turn the signals into mails and counts.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connections, router, transaction

from .. import kinds, signals, times
from ..kinds import TABLE, Kind
from ..models import Reason, SecurityEvent, Session, User, uuid7_floor
from . import limits, users
from .client import UNKNOWN, Client
from .outages import retried
from .writing import insert

logger = logging.getLogger("latchkey.security")

ENDINGS = {
    Reason.LOGOUT: kinds.LOGOUT,
    Reason.LOGOUT_ALL: kinds.LOGOUT,
    Reason.REUSED: kinds.TOKEN_REUSED,
}
"""Revocations that have a kind of their own."""


def announce(kind: Kind, user: User, client: Client = UNKNOWN, session: Session | None = None) -> None:
    """Announce what happened to a user's account. Call it in the change's transaction, so both are kept or neither.

    `user` is the user from before the change: a mail goes to the address that the account had until then.
    """
    try:
        _announce(event(kind, user, client, session))
    except IntegrityError:  # the user has just been deleted; an event that changed nothing is then no error
        if not kind.hourly:
            raise


@retried
def _announce(event: SecurityEvent) -> None:
    kind = TABLE[event.kind]
    with transaction.atomic(using=_db(), savepoint=False):
        if kind.hourly:
            _count(event)
        elif kind.row:
            insert([event], _db())
        announce_inserted([event])


def announce_inserted(events: Sequence[SecurityEvent]) -> None:
    """Announce events whose rows were inserted in this transaction. Lines and counts follow after the commit."""
    for event in events:
        signals.event_announced.send(SecurityEvent, event=event)
    transaction.on_commit(partial(_publish, events), using=_db())


def event(kind: Kind, user: User, client: Client, session: Session | None = None) -> SecurityEvent:
    """Return an event that is neither inserted nor announced yet."""
    return _event(kind, client, session, user=user)


def ending(session: Session, reason: Reason, client: Client) -> SecurityEvent:
    """Return the event for the revocation of a session, neither inserted nor announced yet."""
    kind = ENDINGS.get(reason, kinds.SESSION_REVOKED)
    return _event(kind, client, session, user_id=session.user_id, reason=reason)


@retried
def announce_failed_login(name: Any, client: Client) -> None:
    """Announce a failed login. An unknown name gets no row, so the table can't be filled up."""
    user = users.named(name)
    if user is None:
        # A known name's failure waits for a write, so this one has to wait too.
        limits.pretend(str(name))
        _publish([_event(kinds.LOGIN_FAILED, client)])
        return
    row = event(kinds.LOGIN_FAILED, user, client)
    try:
        _count(row)
    except IntegrityError:
        return  # the user was deleted in this moment
    _publish([row])


def _event(kind: Kind, client: Client, session: Session | None = None, **fields: Any) -> SecurityEvent:
    event = SecurityEvent(
        kind=kind,
        session=session.pk if session else None,
        ip_address=client.ip_address,
        user_agent=client.user_agent,
        **fields,
    )
    if kind.hourly:
        event.id = _id_of_hour(kind, event.session or event.user_id)
    return event


def _publish(events: Iterable[SecurityEvent]) -> None:
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
        signals.event_committed.send(SecurityEvent, event=event)


def _count(row: SecurityEvent) -> None:
    """Insert the row or raise its count, in one statement, so the first event of an hour takes no longer."""
    connection = connections[_db()]
    quote, fields = connection.ops.quote_name, SecurityEvent._meta.concrete_fields
    table, names = quote(SecurityEvent._meta.db_table), {field.name: quote(str(field.column)) for field in fields}
    seen = ", ".join(f"{names[name]} = EXCLUDED.{names[name]}" for name in ("created_at", "ip_address", "user_agent"))
    statement = (
        f"INSERT INTO {table} ({', '.join(names.values())}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608 (names of columns alone)
        f"ON CONFLICT ({names['id']}) DO UPDATE SET {names['count']} = {table}.{names['count']} + 1, {seen}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields])


def _id_of_hour(kind: Kind, subject: Any) -> UUID:
    hour = times.now().replace(minute=0, second=0, microsecond=0)
    digest = hashlib.sha256(f"{kind}:{subject}".encode()).digest()
    return UUID(int=uuid7_floor(hour).int | int.from_bytes(digest[:7], "big"))


def _db() -> str:
    return router.db_for_write(SecurityEvent)
