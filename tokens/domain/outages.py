"""The errors of a database that can't do its work, and trying again where that is safe."""

from collections.abc import Callable
from functools import wraps
from random import uniform
from time import sleep
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections

OUTAGES = (OperationalError, InterfaceError, InternalError)
"""The errors of a database that is gone, full, too slow or out of connections, or read-only, which psycopg calls an
internal error."""

GIVEN_UP = {"40001", "40P01"}
"""SQLSTATE of a transaction that lost to another: a serialization failure, a deadlock."""

PAUSES = (0.05, 0.2)
"""The most seconds before the second and the third try. The wait is random, so that two that collided don't collide
again."""

P = ParamSpec("P")
R = TypeVar("R")


def retried(act: Callable[P, R]) -> Callable[P, R]:
    """Call the function again if the database gave its transaction up in favour of another; at most three times in all.

    The function must change nothing before its one transaction, or its one statement, is committed. Inside a caller's
    transaction it is not called again: that transaction is lost as a whole.
    """

    @wraps(act)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for pause in PAUSES:
            try:
                return act(*args, **kwargs)
            except OperationalError as error:
                if not _is_given_up(error) or _in_transaction():
                    raise
            sleep(uniform(0, pause))  # noqa: S311 (nothing secret)
        return act(*args, **kwargs)

    return wrapper


def describe(error: Exception) -> str:
    """Return the error's first line, for the log. Further lines may quote rows."""
    return f"{_sqlstate(error) or type(error).__name__}: {error}".partition("\n")[0]


def _is_given_up(error: Exception) -> bool:
    return _sqlstate(error) in GIVEN_UP


def _sqlstate(error: Exception) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def _in_transaction() -> bool:
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))
