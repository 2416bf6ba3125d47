"""The messages with SQL of each step, including BEGIN and COMMIT.

PostgreSQL takes several writes as one statement or message, SQLite only one by one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser
from tokens.models import Session

pytestmark = pytest.mark.django_db(transaction=True)

Counting = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _heard(request: pytest.FixtureRequest) -> None:
    if "unheard" not in request.fixturenames:
        request.getfixturevalue("heard")


@pytest.fixture
def ann(transactional_db: None, django_user_model: Any) -> Any:
    return django_user_model._default_manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@contextmanager
def costs(expected: int, sqlite: int | None = None) -> Iterator[None]:
    with CaptureQueriesContext(connection) as captured:
        yield
    statements = [query["sql"] for query in captured]
    assert len(statements) == (sqlite if sqlite and connection.vendor == "sqlite" else expected), statements


def test_login_costs_five_statements(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    with costs(5, sqlite=7):
        Browser().login()


def test_limits_cost_a_login_three_more_statements(ann: Any) -> None:
    with costs(5 + 3, sqlite=7 + 3):
        Browser().login()


def test_login_that_evicts_costs_seven_statements(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    settings.TOKENS_MAX_SESSIONS_PER_USER = 1
    with costs(7, sqlite=10):
        Browser().login()


def test_login_that_prunes_costs_six_statements(
    browser: Browser, settings: Settings, time_machine: TimeMachineFixture
) -> None:
    settings.TOKENS_THROTTLING = False
    time_machine.move_to(timezone.now() + timedelta(days=8))
    with costs(6, sqlite=8):
        Browser().login()
    assert Session.objects.count() == 1


@pytest.mark.parametrize(
    ("cap", "days", "expected", "sqlite"), [(100, 0, 2, 7), (0, 0, 2, 7), (1, 0, 8, 10), (100, 8, 7, 8)]
)
@pytest.mark.usefixtures("unheard")
def test_login_that_nobody_hears_costs_two_messages_unless_something_has_to_go(
    browser: Browser,
    settings: Settings,
    time_machine: TimeMachineFixture,
    cap: int,
    days: int,
    expected: int,
    sqlite: int,
) -> None:
    settings.TOKENS_THROTTLING = False
    settings.TOKENS_MAX_SESSIONS_PER_USER = cap
    time_machine.move_to(timezone.now() + timedelta(days=days))
    with costs(expected, sqlite=sqlite):
        assert Browser().login().status_code == 200
    assert Session.objects.live().count() == (1 if cap == 1 or days else 2)


@pytest.mark.usefixtures("unheard")
def test_login_with_values_that_the_server_binds_costs_five(
    ann: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TOKENS_THROTTLING = False
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "server_side_binding", True)
    with costs(5, sqlite=7):
        Browser().login()


def test_refresh_costs_two_statements_and_adds_no_row(browser: Browser) -> None:
    with costs(2):
        assert browser.refresh().status_code == 200
    assert Session.objects.count() == 1


def test_retry_costs_one_statement(app: App) -> None:
    first = app.refresh_token
    app.refresh()
    with costs(1):
        assert app.refresh(first).status_code == 200


def test_burst_costs_one_statement_and_one_more_to_confirm(app: App) -> None:
    app.refresh()
    with costs(2):
        app.refresh()
    with costs(1):
        app.refresh()


def test_late_retry_costs_two_statements(app: App, time_machine: TimeMachineFixture) -> None:
    first = app.refresh_token
    app.refresh()
    time_machine.move_to(timezone.now() + timedelta(seconds=11))
    with costs(2):
        assert app.refresh(first).status_code == 200


def test_guarded_request_costs_one_statement_and_one_more_after_a_rotation(browser: Browser) -> None:
    guard: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {browser.access}"}
    with costs(1):
        browser.http.post("/auth/introspect", **guard)
    browser.refresh()
    guard = {"HTTP_AUTHORIZATION": f"Bearer {browser.access}"}
    with costs(2):
        browser.http.post("/auth/introspect", **guard)
    with costs(1):
        browser.http.post("/auth/introspect", **guard)


def test_verifying_costs_one_statement(app: App) -> None:
    with costs(1):
        app.verify(app.access)
    with costs(1):
        app.verify(app.refresh_token)


def test_logout_costs_four_statements(browser: Browser) -> None:
    with costs(4, sqlite=5):
        assert browser.logout().status_code == 204


@pytest.mark.usefixtures("unheard")
def test_logout_that_nobody_hears_costs_two(browser: Browser) -> None:
    with costs(2, sqlite=5):
        assert browser.logout().status_code == 204


def test_failed_login_costs_three_statements(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    for _ in range(2):
        with costs(3):
            Browser().login(password="wrong")


def test_failed_login_of_an_unknown_name_costs_three_statements(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    with costs(3):
        Browser().login("nobody")
