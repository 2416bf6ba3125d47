"""The SELECTs of the hot paths: guarded requests, refreshes and logins.

Django compiles a query each time, which takes several times as long as running it. Here each is compiled once for each
connection. docs/benchmarks.md shows what that saves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, QuerySet

from ..models import Session, User, group_names

NO_KEY = (EmptyResultSet, OverflowError, ValidationError, ValueError)
"""The errors of Django's fields for text that can't be one of their values."""


class Compiled(NamedTuple):
    sql: str
    keys: list[Any]
    """The fields by which a row is found, in the order of their values."""

    models: list[tuple[Any, list[str]]]
    """The models whose columns the row begins with, in this order; empty if it begins with the primary key."""

    converters: list[tuple[int, Callable[..., Any], Any]]
    """What turns the value of a column into Python's, as Django would: its position, a function, the expression."""


def read(pk: UUID, using: str, user: str = "", *, groups: bool = False) -> Session | None:
    """Return the session with its user and, if asked for, the names of the user's groups; None if there is none.

    `user` is the claim with the primary key of the session's user. It makes the SELECT cheaper: PostgreSQL then finds
    both rows by a constant. With a wrong one, a second SELECT finds the session, so the caller compares the user.
    """
    rows = _sessions_with_groups if groups else _sessions
    try:
        found = _find(rows, using, pk=pk, user=user) if user else None
    except NO_KEY:
        found = None
    found = found or _find(rows, using, pk=pk)
    if found is None:
        return None
    session: Session
    session, session.user, *names = found
    if names:
        (session.groups,) = names
    return session


def lock(user: User, using: str) -> tuple[User, list[str] | None] | None:
    """Lock the user's row until the end of the transaction; return it with the names of its groups, or None.

    The names are None if the user model has no groups.
    """
    found = _find(_locked_users, using, pk=user.pk)
    if found is None:
        return None
    row, *names = found
    return row, names[0] if names else None


def active(pk: Any, using: str) -> tuple[Compiled, Compiled] | None:
    """Return a SELECT that locks the user's row, with its key and the names of its groups, and one for active users.

    None if no column of the user model says who is active.
    """
    fields = get_user_model()._meta.concrete_fields
    if not any(field.name == "is_active" and isinstance(field, BooleanField) for field in fields):
        return None
    found, is_active = _compiled(_keys, using, pk=pk), _compiled(_active_keys, using, pk=pk)
    # Django compiles no lock outside of a transaction.
    return found._replace(sql=f"{found.sql} {connections[using].ops.for_update_sql(no_key=True)}"), is_active


def instances(compiled: Compiled, row: Sequence[Any], using: str) -> tuple[Any, ...]:
    """Return a row as instances of its models and what was annotated."""
    connection, values = connections[using], list(row)
    for position, convert, expression in compiled.converters:
        values[position] = convert(values[position], expression, connection)
    found, end = [], 0
    for model, columns in compiled.models:
        start, end = end, end + len(columns)
        found.append(model.from_db(using, columns, values[start:end]))
    return *found, *values[end:]


def _sessions() -> QuerySet[Any]:
    return Session.objects.all()


def _sessions_with_groups() -> QuerySet[Any]:
    return Session.objects.with_groups()


def _locked_users() -> QuerySet[Any]:
    return _with_groups(get_user_model()._base_manager.select_for_update(no_key=True))


def _keys() -> QuerySet[Any]:
    return _with_groups(get_user_model()._base_manager.values("pk"))


def _active_keys() -> QuerySet[Any]:
    return get_user_model()._base_manager.filter(is_active=True).values("pk")


def _with_groups(users: QuerySet[Any]) -> QuerySet[Any]:
    groups = group_names("pk")
    return users if groups is None else users.annotate(names_of_groups=groups)


def _find(rows: Callable[[], QuerySet[Any]], using: str, **keys: Any) -> tuple[Any, ...] | None:
    """Return the row with those keys; None if there is none."""
    connection, compiled = connections[using], _compiled(rows, using, **keys)
    given = zip(compiled.keys, keys.values(), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(compiled.sql, [field.get_db_prep_value(key, connection) for field, key in given])
        row = cursor.fetchone()
    return None if row is None else instances(compiled, row, using)


def _compiled(rows: Callable[[], QuerySet[Any]], using: str, **keys: Any) -> Compiled:
    connection = connections[using]
    # Kept on the connection, so it goes when the connection does.
    known: dict[Any, Compiled] = connection.__dict__.setdefault("latchkey_compiled", {})
    name = (rows, *keys)
    if name not in known:
        known[name] = _compile(connection, rows(), keys)
    return known[name]


def _compile(connection: BaseDatabaseWrapper, rows: QuerySet[Any], keys: Mapping[str, Any]) -> Compiled:
    selected = rows.query.values_select  # instead of whole rows
    paths: list[tuple[str, Any]] = [] if selected else [("", rows.model)]
    if rows.model is Session:
        paths.append(("user__", get_user_model()))
    models = [(model, [field.attname for field in model._meta.concrete_fields]) for _, model in paths]
    names = [f"{path}{column}" for (path, _), (_, columns) in zip(paths, models, strict=True) for column in columns]
    query = rows.filter(*keys.items()).values_list(*selected, *names, *rows.query.annotations).query
    query.selected = None  # so that no column gets an alias, which the database would parse each time
    compiler = query.get_compiler(connection=connection)
    sql, _ = compiler.as_sql()
    found = compiler.get_converters([column for column, *_ in compiler.select])
    return Compiled(
        sql,
        [(get_user_model() if name == "user" else rows.model)._meta.pk for name in keys],
        models,
        [(position, convert, expression) for position, (them, expression) in found.items() for convert in them],
    )
