"""Whether a session outlives the browser: the login decides, and every rotation keeps it."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser, claims_of
from tokens.models import Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

Clock = TimeMachineFixture

START = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
SHORT = 12 * HOUR


@pytest.fixture
def library(ann: Any) -> Browser:
    """A browser on a shared computer."""
    browser = Browser()
    assert browser.login(remember=False).status_code == 200
    return browser


def lives(response: Any) -> Any:
    """Return how long the browser keeps the cookie; empty if until it closes."""
    cookie = response.cookies["refreshToken"]
    assert bool(cookie["max-age"]) == bool(cookie["expires"])
    return cookie["max-age"]


@pytest.mark.parametrize("remember", [None, True])
def test_session_is_remembered_by_default(ann: Any, remember: bool | None) -> None:
    assert lives(Browser().login(remember=remember)) == 604800
    session = Session.objects.get()
    assert session.remembered
    assert session.ends_at() == START + timedelta(days=90)


def test_cookie_of_a_short_session_ends_with_the_browser(ann: Any, clock: Clock) -> None:
    browser = Browser()
    answers = [browser.login(remember=False)]
    first = browser.cookie
    answers.append(browser.refresh())  # rotated
    answers.append(browser.refresh())  # given back
    answers.append(browser.refresh(first))  # given again
    clock.shift(11)
    answers.append(browser.refresh())
    for response in answers:
        assert response.status_code == 200
        assert lives(response) == ""
        cookie = response.cookies["refreshToken"]
        assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (
            True,
            True,
            "Strict",
            "/auth",
        )
    assert not Session.objects.get().remembered


def test_late_retry_keeps_the_choice(library: Browser, clock: Clock) -> None:
    first = library.cookie
    library.refresh()
    clock.shift(11)
    response = library.refresh(first)
    assert (response.status_code, lives(response)) == (200, "")
    assert claims_of(library.cookie)["exp"] == (START + SHORT).timestamp()


def test_short_session_ends_after_twelve_hours_despite_use(library: Browser, clock: Clock) -> None:
    for _ in range(11):
        clock.shift(HOUR)
        assert library.refresh().status_code == 200
        assert claims_of(library.cookie)["exp"] == (START + SHORT).timestamp()
    clock.shift(HOUR - SECOND)
    assert library.refresh().status_code == 200
    assert claims_of(library.access)["exp"] == (START + SHORT).timestamp()
    clock.shift(SECOND)
    response = library.refresh()
    assert (response.status_code, response.json()["code"]) == (401, "token_expired")
    assert library.post("/auth/logout-all", access=library.access).json()["code"] == "token_expired"


def test_each_browser_has_its_own_choice(browser: Browser, library: Browser, clock: Clock) -> None:
    clock.shift(SHORT)
    assert library.refresh().json()["code"] == "token_expired"
    assert lives(browser.refresh()) == 604800
    assert Session.objects.live().get().remembered


def test_short_session_lifetime_is_a_setting(ann: Any, clock: Clock, settings: Settings) -> None:
    settings.TOKENS_SHORT_SESSION_LIFETIME = HOUR
    browser = Browser()
    browser.login(remember=False)
    assert claims_of(browser.cookie)["exp"] == (START + HOUR).timestamp()
    settings.TOKENS_SHORT_SESSION_LIFETIME = 2 * HOUR
    browser.refresh()
    assert claims_of(browser.cookie)["exp"] == (START + 2 * HOUR).timestamp()


def test_short_session_never_outlasts_a_remembered_one(ann: Any, settings: Settings) -> None:
    settings.TOKENS_SESSION_LIFETIME = HOUR
    browser = Browser()
    browser.login(remember=False)
    assert claims_of(browser.cookie)["exp"] == (START + HOUR).timestamp()


def test_shorter_idle_end_comes_first(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "REFRESH_TOKEN_LIFETIME": HOUR}
    browser = Browser()
    browser.login(remember=False)
    assert claims_of(browser.cookie)["exp"] == (START + HOUR).timestamp()


@pytest.mark.parametrize("value", [None, 0, 1, "false", "on", "", 0.0, [], [False], {}])
def test_remember_must_be_a_boolean(ann: Any, value: object) -> None:
    body = json.dumps({"username": "ann", "password": PASSWORD, "remember": value})
    response = APIClient().post("/auth/login", body, content_type="application/json")
    assert (response.status_code, response.json().keys()) == (400, {"remember"})
    assert not response.cookies
    assert not Session.objects.exists()


def test_body_transport_ignores_remember(ann: Any) -> None:
    body = {"username": "ann", "password": PASSWORD, "remember": False}
    response = App().http.post("/api/token/", body, format="json")
    assert (response.status_code, response.json().keys()) == (200, {"access", "refresh"})
    assert Session.objects.get().remembered


def test_logout_clears_the_cookie_of_a_short_session(library: Browser) -> None:
    response = library.logout()
    assert (response.status_code, response.cookies["refreshToken"].value) == (204, "")
    assert response.cookies["refreshToken"]["max-age"] == 0


@pytest.mark.parametrize(("early", "left"), [(SECOND, 2), (timedelta(), 1)])
def test_flush_deletes_an_ended_short_session_only(
    browser: Browser, library: Browser, clock: Clock, early: timedelta, left: int
) -> None:
    clock.move_to(START + SHORT - early, tick=False)
    call_command("flushexpiredtokens", "--batch-size", "1", verbosity=0)
    assert Session.objects.count() == left
    assert Session.objects.filter(remembered=True).exists()
