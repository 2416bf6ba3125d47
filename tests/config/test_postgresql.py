"""Persistent connections: how a lost one is noticed, and how statements are prepared in one."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import close_old_connections, connection

from accounts.models import User
from tests.clients import PASSWORD, Browser

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="a file has no connection to lose"),
]


@pytest.fixture
def kept() -> Iterator[int]:
    """Keep a connection from one request to the next; return the database process behind it."""
    connection.close()
    ask()
    close_old_connections()  # a request begins
    yield process()
    connection.close()


def process() -> int:
    pid: int = connection.connection.info.backend_pid
    return pid


def ask() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'alive'")
        return cursor.fetchone()


def elsewhere(statement: str) -> tuple[Any, ...] | None:
    address = connection.get_connection_params()
    known = {name: address[name] for name in ("dbname", "user", "host", "port") if name in address}
    with psycopg.connect(**known, autocommit=True) as other:
        return other.execute(statement.encode()).fetchone()


def test_working_connection_is_checked_without_a_statement(kept: int) -> None:
    connection.close_if_health_check_failed()
    assert elsewhere(f"SELECT query FROM pg_stat_activity WHERE pid = {kept}") == ("SELECT 'alive'",)
    assert process() == kept


def test_connection_closed_by_the_server_causes_no_error(kept: int) -> None:
    assert elsewhere(f"SELECT pg_terminate_backend({kept}, 10000)") == (True,)
    assert ask() == ("alive",)
    assert process() != kept


def test_closed_connection_is_reopened(kept: int) -> None:
    connection.connection.close()
    assert ask() == ("alive",)
    assert process() != kept


def test_connection_with_pending_data_is_checked_and_kept(kept: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN news")
    close_old_connections()
    elsewhere("SELECT pg_notify('news', '')")
    assert ask() == ("alive",)
    assert process() == kept


def test_prepared_statements_give_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("ann", password=PASSWORD)
    connection.close()
    for name, value in {"server_side_binding": True, "prepare_threshold": 0}.items():
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], name, value)
    browser = Browser()
    for _ in range(2):
        browser.login()
        assert browser.refresh().status_code == 200
        assert browser.logout().status_code == 204
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        statements = str(cursor.fetchall())
    connection.close()
    for statement in ('INSERT INTO "latchkey_session"', 'UPDATE "latchkey_session"', "INSERT INTO latchkey_bucket"):
        assert statement in statements
