"""Limits how long the server waits for its database: a request gets 503 instead of waiting without end.

PostgreSQL's own timeouts don't help if the whole database hangs, and they are connection settings, which a transaction
pooler does not accept. Commands, like migrations, wait as long as it takes.
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
    """A connection of psycopg that waits for an answer for DATABASE_TIMEOUT, and is then closed."""

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        try:
            return super().wait(gen, *args, **{"timeout": settings.DATABASE_TIMEOUT} | kwargs)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 (to be converted, psycopg says)
            # Otherwise it could go on waiting for a lock, and hold its own locks.
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_TIMEOUT)
            # A late answer would be taken for the answer to another statement.
            self.close()
            raise psycopg.OperationalError(f"no answer within {settings.DATABASE_TIMEOUT} seconds") from error


def limit(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Limit how long this connection waits; for the signal `connection_created`."""
    if connection.vendor == "postgresql":
        connection.connection.__class__ = Connection
