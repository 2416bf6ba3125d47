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

OTHERS = """\
SELECT COUNT(CASE WHEN "revoked_at" IS NULL AND "expires_at" > %s THEN 1 END),
COUNT(CASE WHEN "expires_at" <= %s THEN 1 END) FROM "latchkey_session" WHERE "user_id" = %s AND "id" <> %s"""

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

    Call it in a transaction.
    """
    if event is None or connections[using].vendor != "postgresql":
        did = update(pk, using, changes)
        insert([event] if event and did else [], using)
        return did
    change, insertion = _update(pk, using, changes, {}), _insert([event], using, "SELECT {} FROM ended")
    sql = f"WITH ended AS ({change.sql} RETURNING 1) {insertion.sql}"
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [*change.values, *insertion.values])
        return bool(cursor.rowcount)


def begin(session: Session, login: SecurityEvent, using: str) -> tuple[int, int]:
    """Insert a session and the event of its login.

    Return how many other sessions of the user are live, whatever the password, and how many have expired.
    """
    connection = connections[using]
    named = {"expires_at": session.created_at, "user": session.user_id, "id": session.pk}
    at, user, pk = (_field(name).get_db_prep_value(value, connection) for name, value in named.items())
    row, event, others = _insert([session], using), _insert([login], using), Statement(OTHERS, [at, at, user, pk])
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            sql = f"WITH begun AS ({row.sql}), announced AS ({event.sql}) {others.sql}"
            cursor.execute(sql, [*row.values, *event.values, *others.values])
        else:
            for statement in (row, event, others):
                cursor.execute(*statement)
        return cast(tuple[int, int], cursor.fetchone())


def insert(rows: Sequence[Model], using: str) -> None:
    """Insert the rows, all of one model, in one statement. Django sends no signals for it."""
    if rows:
        with connections[using].cursor() as cursor:
            cursor.execute(*_insert(rows, using))


def _update(pk: UUID, using: str, changes: Mapping[str, Any], state: Mapping[str, Any]) -> Statement:
    connection = connections[using]
    sql, fields = _text_of_update(tuple(changes), tuple(state))
    given = zip(fields, (*changes.values(), *state.values(), pk), strict=True)
    return Statement(sql, [field.get_db_prep_save(value, connection) for field, value in given])


@cache
def _text_of_update(changes: Sequence[str], state: Sequence[str]) -> tuple[str, Sequence[Any]]:
    """Return the text, and the fields whose values it takes. The names are those of columns, never a client's."""
    fields = [_field(name) for name in (*changes, *state, "id")]
    equations = [f'"{field.column}" = %s' for field in fields]
    sets, conditions = ", ".join(equations[: len(changes)]), " AND ".join(equations[len(changes) :])
    return f'UPDATE "latchkey_session" SET {sets} WHERE {conditions} AND {NOT_REVOKED}', fields  # noqa: S608


def _insert(rows: Sequence[Model], using: str, source: str = "") -> Statement:
    """Return the statement that inserts the rows; if one row is to come from a SELECT, `source` is that."""
    connection, fields = connections[using], rows[0]._meta.concrete_fields
    head, places = _text_of_insert(type(rows[0]))
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in fields]
    for row in rows:
        row._state.adding, row._state.db = False, using  # noqa: SLF001 (Django's documented API)
    return Statement(head + (source.format(places) or f"VALUES {', '.join([f'({places})'] * len(rows))}"), values)


@cache
def _text_of_insert(model: type[Model]) -> tuple[str, str]:
    """Return the text up to the values, and the places for those of one row."""
    columns = [f'"{field.column}"' for field in model._meta.concrete_fields]
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) ', ", ".join(["%s"] * len(columns))


def _field(name: str) -> Any:
    return Session._meta.get_field(name)
