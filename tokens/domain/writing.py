"""The hot paths' statements that write. Django compiles each one again, which takes longer than running it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from django.db import connections
from django.db.models import Model

from ..models import Session


def update(pk: UUID, using: str, changes: Mapping[str, Any], **state: Any) -> bool:
    """Change the row of a session that is not revoked, if it is still in that state; return whether it was."""
    connection, meta = connections[using], cast(Any, Session._meta)
    quote = connection.ops.quote_name
    state["id"] = pk
    given = [(meta.get_field(name), value) for name, value in (*changes.items(), *state.items())]
    equations = [f"{quote(field.column)} = %s" for field, _ in given]
    sets, conditions = ", ".join(equations[: len(changes)]), " AND ".join(equations[len(changes) :])
    table, revoked_at = quote(meta.db_table), quote("revoked_at")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {sets} WHERE {conditions} AND {revoked_at} IS NULL",  # noqa: S608 (names of columns)
            [field.get_db_prep_save(value, connection) for field, value in given],
        )
        return bool(cursor.rowcount)


def insert(rows: Sequence[Model], using: str) -> None:
    """Insert the rows, all of one model, in one statement. Django sends no signals for it."""
    if not rows:
        return
    connection, meta = connections[using], cast(Any, rows[0]._meta)
    quote, fields = connection.ops.quote_name, meta.concrete_fields
    table, columns = quote(meta.db_table), ", ".join(quote(field.column) for field in fields)
    places = ", ".join([f"({', '.join(['%s'] * len(fields))})"] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES {places}",  # noqa: S608 (names of columns)
            [field.get_db_prep_save(getattr(row, field.attname), connection) for row in rows for field in fields],
        )
    for row in rows:
        row._state.adding, row._state.db = False, using  # noqa: SLF001 (Django's documented API)
