"""The SELECT of every guarded request and every refresh: one session, joined with its user.

Django compiles a query anew each time, which takes several times as long as running this one does; here it is compiled
once for each connection. Without that a guarded request takes twice the CPU time: 1.3 ms instead of 0.6, of which the
SELECT is 0.43 to 0.78 instead of 0.08 (CPython 3.11, Django 5.2, SQLite, in process; the best of five rounds of 200).
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Session


class Compiled(NamedTuple):
    sql: str
    user_model: Any
    session_columns: list[str]
    user_columns: list[str]
    converters: list[tuple[int, Callable[..., Any], Any]]
    """What turns the value of a column into Python's, as Django would: its position, a function, the expression."""


def read(pk: UUID, using: str, *, groups: bool = False) -> Session | None:
    """Return the session with its user and, if asked for, the names of the user's groups; None if there is none."""
    connection = connections[using]
    # Kept on the connection, so it goes when the connection does.
    known: dict[bool, Compiled] = connection.__dict__.setdefault("latchkey_compiled", {})
    if groups not in known:
        known[groups] = _compile(connection, groups)
    compiled = known[groups]
    with connection.cursor() as cursor:
        cursor.execute(compiled.sql, [Session._meta.pk.get_db_prep_value(pk, connection)])
        row = cursor.fetchone()
    if row is None:
        return None
    values = list(row)
    for position, convert, expression in compiled.converters:
        values[position] = convert(values[position], expression, connection)
    following = len(compiled.session_columns)
    session: Session = Session.from_db(using, compiled.session_columns, values[:following])
    end = following + len(compiled.user_columns)
    session.user = compiled.user_model.from_db(using, compiled.user_columns, values[following:end])
    if len(values) > end:
        session.groups = values[end]
    return session


def _compile(connection: BaseDatabaseWrapper, groups: bool) -> Compiled:
    rows = Session.objects.with_groups() if groups else Session.objects.all()
    user_model = get_user_model()
    session_columns, user_columns = _columns(Session), _columns(user_model)
    names = [*session_columns, *(f"user__{name}" for name in user_columns), *rows.query.annotations]
    query = rows.filter(pk=UUID(int=0)).values_list(*names).query
    compiler = query.get_compiler(connection=connection)
    sql, (_pk,) = compiler.as_sql()
    found = compiler.get_converters([column for column, *_ in compiler.select])
    return Compiled(
        sql,
        user_model,
        session_columns,
        user_columns,
        [(position, convert, expression) for position, (them, expression) in found.items() for convert in them],
    )


def _columns(model: type[Any]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]
