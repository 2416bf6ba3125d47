"""The hot paths' statements that write. Django compiles each one again, which takes longer than running it.

PostgreSQL gets those that belong together as one statement: a round trip costs more than the work.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.db import connections
from django.db.models import Model

from ..models import SecurityEvent, Session
from . import reading

OTHERS = """\
SELECT COUNT(CASE WHEN "revoked_at" IS NULL AND "expires_at" > %s THEN 1 END),
COUNT(CASE WHEN "expires_at" <= %s THEN 1 END) FROM "latchkey_session" WHERE "user_id" = %s AND "id" <> %s"""

SURPLUS = """\
SELECT 1 FROM "latchkey_session" WHERE "user_id" = %s
HAVING COUNT(CASE WHEN "revoked_at" IS NULL AND "expires_at" > %s THEN 1 END) >= %s
OR COUNT(CASE WHEN "expires_at" <= %s THEN 1 END) > 0"""
"""Selects a row if more than the new session is at stake: the user has that many live sessions, or expired ones."""

NO_CAP = 2**31 - 1

NOT_REVOKED = '"revoked_at" IS NULL'
"""The condition under which a statement may change a session, so that nothing outlives a logout."""


class Statement(NamedTuple):
    sql: str
    values: Sequence[Any]


def update(pk: UUID, using: str, changes: Mapping[str, Any], **state: Any) -> bool:
    """Change the row of a session that is not revoked, if it is still in that state; return whether it was."""
    with connections[using].cursor() as cursor:
        cursor.execute(*_update(pk, using, changes, state))
        return bool(cursor.rowcount)


def end(pk: UUID, using: str, changes: Mapping[str, Any], event: SecurityEvent | None = None) -> bool:
    """Revoke a session by these changes, and insert the event of that, if there is one; return whether this call did.

    Call it in a transaction, unless `is_one_statement`.
    """
    if event is None or not is_one_statement(using):
        did = update(pk, using, changes)
        insert([event] if event and did else [], using)
        return did
    change, insertion = _update(pk, using, changes, {}), _insert([event], using, "SELECT {} FROM ended")
    sql = f"WITH ended AS ({change.sql} RETURNING 1) {insertion.sql}"
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [*change.values, *insertion.values])
        return bool(cursor.rowcount)


def is_one_statement(using: str) -> bool:
    """Return whether the database takes writes to several tables as one statement."""
    return connections[using].vendor == "postgresql"


def begin(session: Session, login: SecurityEvent, using: str) -> tuple[int, int]:
    """Insert a session and the event of its login.

    Return how many other sessions of the user are live, whatever the password, and how many have expired.
    """
    connection, (at, user, pk) = connections[using], _of_others(session, using)
    row, event, others = _insert([session], using), _insert([login], using), Statement(OTHERS, [at, at, user, pk])
    with connection.cursor() as cursor:
        if is_one_statement(using):
            sql = f"WITH begun AS ({row.sql}), announced AS ({event.sql}) {others.sql}"
            cursor.execute(sql, [*row.values, *event.values, *others.values])
        else:
            for statement in (row, event, others):
                cursor.execute(*statement)
        return cast(tuple[int, int], cursor.fetchone())


def begin_at_once(session: Session, login: SecurityEvent, cap: int, using: str) -> tuple[Any, ...] | None:
    """Do in one message, which PostgreSQL takes as one transaction, what a login usually does.

    Lock the user, and insert the session and the event of its login. Return what `reading.active` selects; or None if
    nothing was changed, because the user is not active, has `cap` live sessions (0 means no cap) or has some that have
    expired.
    """
    connection = connections[using]
    found = reading.active(session.user_id, using) if _takes_two(connection) else None
    if found is None:
        return None
    lock, active = found
    key = lock.keys[0].get_db_prep_value(session.user_id, connection)
    at, user, _ = _of_others(session, using)
    row = _insert([session], using, f"SELECT {{}} WHERE EXISTS ({active.sql}) AND NOT EXISTS ({SURPLUS}) RETURNING 1")
    event = _insert([login], using, "SELECT {} FROM begun")
    # Two statements, since each sees what was committed before it began: the second what the lock has waited for.
    sql = f"{lock.sql}; WITH begun AS ({row.sql}) {event.sql}"
    with connection.cursor() as cursor:
        cursor.execute(sql, [key, *row.values, key, user, at, cap or NO_CAP, at, *event.values])
        locked = cursor.fetchone()
        cursor.nextset()
        return reading.instances(lock, locked, using) if cursor.rowcount else None


def insert(rows: Sequence[Model], using: str) -> None:
    """Insert the rows, all of one model, in one statement. Django sends no signals for it."""
    if rows:
        with connections[using].cursor() as cursor:
            cursor.execute(*_insert(rows, using))


def _takes_two(connection: Any) -> bool:
    """Return whether a message can have two statements: with psycopg 3, unless the server binds the values."""
    is_bound_there = connection.settings_dict["OPTIONS"].get("server_side_binding")
    return connection.vendor == "postgresql" and connection.Database.__name__ == "psycopg" and not is_bound_there


def _of_others(session: Session, using: str) -> tuple[Any, Any, Any]:
    """Return the time, the user and the key by which the user's other sessions are counted."""
    named = {"expires_at": session.created_at, "user": session.user_id, "id": session.pk}
    at, user, pk = (_field(name).get_db_prep_value(value, connections[using]) for name, value in named.items())
    return at, user, pk


def _update(pk: UUID, using: str, changes: Mapping[str, Any], state: Mapping[str, Any]) -> Statement:
    connection = connections[using]
    sql, fields = _text_of_update(tuple(changes), tuple(state))
    given = zip(fields, (*changes.values(), *state.values(), pk), strict=True)
    return Statement(sql, [field.get_db_prep_save(value, connection) for field, value in given])


@cache
def _text_of_update(changes: Sequence[str], state: Sequence[str]) -> tuple[str, Sequence[Any]]:
    """Return the text, and the fields whose values it takes. The names are columns, never a client's text."""
    fields = [_field(name) for name in (*changes, *state, "id")]
    equations = [f'"{field.column}" = %s' for field in fields]
    sets, conditions = ", ".join(equations[: len(changes)]), " AND ".join(equations[len(changes) :])
    return f'UPDATE "latchkey_session" SET {sets} WHERE {conditions} AND {NOT_REVOKED}', fields  # noqa: S608


def _insert(rows: Sequence[Model], using: str, source: str = "") -> Statement:
    """Return the statement that inserts the rows. `source` is the SELECT that a single row comes from, if any."""
    connection, fields = connections[using], rows[0]._meta.concrete_fields
    head, places = _text_of_insert(type(rows[0]))
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in fields]
    for row in rows:
        row._state.adding, row._state.db = False, using  # noqa: SLF001 (Django's documented API)
    return Statement(head + (source.format(places) or f"VALUES {', '.join([f'({places})'] * len(rows))}"), values)


@cache
def _text_of_insert(model: type[Model]) -> tuple[str, str]:
    """Return the text up to the values, and the placeholders for the values of one row."""
    columns = [f'"{field.column}"' for field in model._meta.concrete_fields]
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) ', ", ".join(["%s"] * len(columns))


def _field(name: str) -> Any:
    return Session._meta.get_field(name)
