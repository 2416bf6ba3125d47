from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.db.utils import ConnectionHandler

from config.serving import waiting
from tests.mailbox import wait_until


@contextmanager
def limited() -> Iterator[None]:
    connection.close()
    connection.connect()
    waiting.limit(connection)
    try:
        yield
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite answers or fails by itself")
def test_statement_is_given_up_after_the_timeout(settings: Any) -> None:
    with limited(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1), 1")
        assert cursor.fetchone() == ("", 1)
        settings.DATABASE_TIMEOUT = 1
        with pytest.raises(OperationalError, match="no answer within 1 seconds"), transaction.atomic():
            cursor.execute("SELECT pg_sleep(600)")
    wait_until(lambda: not sleepers())


def sleepers() -> int:
    """Return how many statements still sleep in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_connection_with_a_timeout_works() -> None:
    with limited(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        is_limited = isinstance(connection.connection, waiting.Connection)
        assert is_limited == (connection.vendor == "postgresql")
        assert issubclass(waiting.Connection, psycopg.Connection)


@pytest.mark.django_db
def test_other_engines_are_unchanged() -> None:
    sqlite = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]
    sqlite.connect()
    before = type(sqlite.connection)
    waiting.limit(sqlite)
    assert type(sqlite.connection) is before
    sqlite.close()
