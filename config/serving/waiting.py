"""How long the server waits for its database: a request is told to come again, rather than to wait for ever.

PostgreSQL's own timeouts don't help where the whole database hangs, and are settings of a connection, of which a
transaction pooler takes none. Commands, migrations for one, wait as long as it takes.
"""

from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.abc import PQGen

R = TypeVar("R")

CANCEL_TIMEOUT = 1  # seconds


class Connection(psycopg.Connection[Any]):
    """One of psycopg's that waits for an answer no longer than DATABASE_TIMEOUT, and is closed then."""

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        try:
            return super().wait(gen, *args, **{"timeout": settings.DATABASE_TIMEOUT} | kwargs)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 (to be converted, psycopg says)
            # Otherwise it would go on waiting for a lock, say, and hold those that it has.
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_TIMEOUT)
            # An answer that came yet would be taken for that to another statement.
            self.close()
            raise psycopg.OperationalError(f"no answer within {settings.DATABASE_TIMEOUT} seconds") from error


def limit(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Limit how long this connection waits; for the signal `connection_created`."""
    if connection.vendor == "postgresql":
        connection.connection.__class__ = Connection
