"""Which refresh tokens are valid: the table of docs/model.md, row by row, with every boundary."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import App, Browser, claims_of
from tests.provers import Prover, ProvingClient
from tokens.domain import sessions
from tokens.exceptions import TokenExpired, TokenNotValid
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.usefixtures("clock")

START = "2030-01-01T12:00:00.250Z"

GRACE = 10

Clock = TimeMachineFixture


@pytest.fixture(params=["unbound", "bound"])
def http(request: pytest.FixtureRequest) -> APIClient:
    """The client of the requests. Nothing here depends on whether it proves a key."""
    return ProvingClient(Prover()) if request.param == "bound" else APIClient()


@pytest.fixture
def app(ann: Any, http: APIClient) -> App:
    app = App()
    app.http = http
    assert app.login().status_code == 200
    return app


@pytest.fixture
def browser(ann: Any, http: APIClient) -> Browser:
    browser = Browser()
    browser.http = http
    assert browser.login().status_code == 200
    return browser


def later(clock: Clock, seconds: float) -> None:
    clock.shift(timedelta(seconds=seconds))


def row() -> Session:
    session: Session = Session.objects.get()
    return session


def assert_reused(response: Any) -> None:
    assert response.status_code == 401
    assert response.json()["code"] == "token_reused"
    assert row().revoked_reason == Reason.REUSED
    assert SecurityEvent.objects.filter(kind="token_reused", session=row().pk).count() == 1


def test_login_token_rotates_at_its_first_use(app: App) -> None:
    first = app.refresh_token
    assert app.refresh().status_code == 200
    assert app.refresh_token != first
    assert (claims_of(first)["generation"], claims_of(app.refresh_token)["generation"]) == (0, 1)
    assert (row().generation, row().predecessor, row().confirmed) == (1, 0, False)


def test_retry_within_the_grace_period_gives_the_same_token_byte_for_byte(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    second, access = app.refresh_token, app.access
    later(clock, GRACE)
    assert app.refresh(first).json()["refresh"] == second
    assert app.access != access
    assert claims_of(app.access)["iat"] == claims_of(access)["iat"] + GRACE
    assert row().generation == 1


def test_burst_returns_a_fresh_token_unchanged_and_confirms_it(app: App, clock: Clock) -> None:
    app.refresh()
    second = app.refresh_token
    later(clock, GRACE - 0.001)
    assert app.refresh().json()["refresh"] == second
    assert (row().generation, row().confirmed) == (1, True)


def test_token_is_rotated_again_once_the_grace_period_is_over(app: App, clock: Clock) -> None:
    app.refresh()
    second = app.refresh_token
    later(clock, GRACE)
    app.refresh()
    assert app.refresh_token != second
    assert (row().generation, row().predecessor, row().confirmed) == (2, 1, False)


def test_late_retry_gets_a_new_token(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    lost = app.refresh_token
    later(clock, GRACE + 1)
    assert app.refresh(first).status_code == 200
    assert app.refresh_token not in (first, lost)
    assert (row().generation, row().predecessor, row().confirmed) == (2, 0, False)


def test_late_retry_has_its_own_grace_period(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    later(clock, GRACE + 1)
    app.refresh(first)
    anew = app.refresh_token
    later(clock, GRACE)
    assert app.refresh(first).json()["refresh"] == anew


def test_three_late_retries_are_accepted_and_a_fourth_is_reuse(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    for _ in range(3):
        later(clock, GRACE + 1)
        assert app.refresh(first).status_code == 200
    later(clock, GRACE + 1)
    assert_reused(app.refresh(first))


def test_refresh_token_given_up_by_a_late_retry_is_reuse(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    lost = app.refresh_token
    later(clock, GRACE + 1)
    app.refresh(first)
    assert_reused(app.refresh(lost))


def test_access_token_given_up_by_a_late_retry_is_reuse(browser: Browser, clock: Clock) -> None:
    first = browser.cookie
    browser.refresh()
    lost = browser.access
    later(clock, GRACE + 1)
    browser.refresh(first)
    assert_reused(browser.post("/auth/logout-all", access=lost))
    assert browser.refresh().json()["code"] == "token_revoked"


def test_given_up_access_token_is_detected_until_the_next_ordinary_rotation(browser: Browser, clock: Clock) -> None:
    first = browser.cookie
    browser.refresh()
    lost = browser.access
    later(clock, GRACE + 1)
    browser.refresh(first)
    later(clock, GRACE)
    browser.refresh()
    assert browser.http.post("/api/token/verify/", {"token": lost}, format="json").status_code == 200


def test_verifying_a_given_up_access_token_is_refused_without_consequence(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    lost = app.access
    later(clock, GRACE + 1)
    app.refresh(first)
    response = app.verify(lost)
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert row().revoked_at is None


def test_retry_is_reuse_after_a_given_up_token_was_verified(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    lost = app.refresh_token, app.access
    later(clock, GRACE + 1)
    app.refresh(first)
    for token in (*lost, *lost):
        assert app.verify(token).json()["code"] == "token_not_valid"
    assert (row().exposed, row().revoked_at) == (True, None)
    assert app.verify(first).json()["code"] == "token_not_valid"
    assert_reused(app.refresh(first))


def test_verifying_a_given_up_token_does_not_affect_the_owner(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    lost = app.access
    later(clock, GRACE + 1)
    app.refresh(first)
    app.verify(lost)
    assert app.refresh().status_code == 200
    later(clock, GRACE)
    before = app.refresh_token
    assert app.refresh().status_code == 200
    assert not row().exposed
    assert app.refresh(before).status_code == 200


@pytest.mark.parametrize("used", ["refresh token", "access token"])
def test_late_retry_after_a_use_is_reuse(browser: Browser, clock: Clock, used: str) -> None:
    first = browser.cookie
    browser.refresh()
    later(clock, 1)
    if used == "refresh token":
        browser.refresh()
    else:
        browser.http.post("/auth/introspect", HTTP_AUTHORIZATION=f"Bearer {browser.access}")
    assert row().confirmed
    later(clock, GRACE + 1)
    assert_reused(browser.refresh(first))


@pytest.mark.parametrize("look", ["verify", "refused logout", "earlier access token"])
def test_verification_and_refusals_keep_the_late_retry_valid(browser: Browser, clock: Clock, look: str) -> None:
    first, earlier = browser.cookie, browser.access
    browser.refresh()
    match look:
        case "verify":
            app = App()
            assert app.verify(browser.access).status_code == app.verify(browser.cookie).status_code == 200
        case "refused logout":
            del browser.http.cookies["refreshToken"]
            assert browser.logout().json()["code"] == "refresh_token_missing"
        case "earlier access token":
            browser.http.post("/auth/introspect", HTTP_AUTHORIZATION=f"Bearer {earlier}")
    assert not row().confirmed
    later(clock, GRACE + 1)
    assert browser.refresh(first).status_code == 200


def test_older_token_is_reuse_and_ends_the_session(browser: Browser, clock: Clock) -> None:
    first = browser.cookie
    browser.refresh()
    later(clock, GRACE)
    browser.refresh()
    newest = browser.cookie
    assert_reused(browser.refresh(first))
    assert browser.cookie == ""
    assert browser.refresh(newest).json()["code"] == "token_revoked"
    assert browser.post("/auth/logout-all", access=browser.access).json()["code"] == "token_revoked"


def test_older_token_is_reuse_within_the_grace_period_too(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    later(clock, GRACE)
    app.refresh()
    assert_reused(app.refresh(first))


def test_superseded_token_that_has_expired_is_just_expired(app: App, clock: Clock) -> None:
    first = app.refresh_token
    later(clock, 6 * 86400)
    app.refresh()
    later(clock, GRACE)
    app.refresh()
    later(clock, 86400)
    assert app.refresh(first).json()["code"] == "token_expired"
    assert app.refresh().status_code == 200


def test_late_retry_is_reuse_if_turned_off(app: App, clock: Clock, settings: Settings) -> None:
    settings.TOKENS_LATE_RETRY = False
    first = app.refresh_token
    app.refresh()
    later(clock, GRACE + 1)
    assert_reused(app.refresh(first))


def test_every_use_rotates_without_a_grace_period(app: App, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    for generation in (1, 2, 3):
        app.refresh()
        assert claims_of(app.refresh_token)["generation"] == generation


def test_retry_is_late_without_a_grace_period(app: App, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    first = app.refresh_token
    app.refresh()
    assert app.refresh(first).status_code == 200
    assert (row().generation, row().predecessor) == (2, 0)


def test_grace_period_is_read_when_it_is_used(app: App, clock: Clock, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(seconds=60)
    first = app.refresh_token
    app.refresh()
    second = app.refresh_token
    later(clock, 60)
    assert app.refresh(first).json()["refresh"] == second


def test_server_clock_behind_the_rotating_server_changes_nothing(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    second = app.refresh_token
    later(clock, -3)
    assert app.refresh(first).json()["refresh"] == second
    assert app.refresh().json()["refresh"] == second


def test_wrong_clock_does_not_extend_the_grace_period(browser: Browser, clock: Clock) -> None:
    first = browser.cookie
    later(clock, 30 * 60)
    browser.refresh()
    browser.refresh()  # a use
    later(clock, -30 * 60)
    assert_reused(browser.refresh(first))


def test_session_stored_by_a_wrong_clock_is_rotated_at_its_next_use(app: App, clock: Clock) -> None:
    first = app.refresh_token
    app.refresh()
    Session.objects.update(rotated_at=row().rotated_at + timedelta(days=30))
    later(clock, 1)
    assert app.refresh(first).status_code == 200  # nothing was used: a late retry
    assert (row().generation, row().rotated_at) == (2, timezone.now())


@pytest.mark.parametrize(("ahead", "answer"), [(8, 200), (10, 401)])
def test_server_clock_ahead_shortens_the_grace_period(browser: Browser, clock: Clock, ahead: int, answer: int) -> None:
    first = browser.cookie
    browser.refresh()
    browser.http.post("/auth/introspect", HTTP_AUTHORIZATION=f"Bearer {browser.access}")
    later(clock, ahead + 1)  # to the other server, a second later
    assert browser.refresh(first).status_code == answer


def test_server_clock_behind_still_rotates_without_a_grace_period(app: App, clock: Clock, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    app.refresh()
    later(clock, -3)
    app.refresh()
    assert row().generation == 2


def test_rotation_moves_the_idle_end_but_not_the_absolute_end(app: App, clock: Clock) -> None:
    day = 86400
    start = claims_of(app.refresh_token)["iat"]
    for days in range(6, 90, 6):
        later(clock, 6 * day)
        assert app.refresh().status_code == 200
        claims = claims_of(app.refresh_token)
        assert claims["iat"] == start + days * day
        assert claims["exp"] == min(claims["iat"] + 7 * day, start + 90 * day)
    later(clock, 6 * day)
    assert app.refresh().json()["code"] == "token_expired"


def test_access_token_does_not_outlive_the_absolute_end(app: App, settings: Settings) -> None:
    settings.TOKENS_SESSION_LIFETIME = timedelta(minutes=5)
    app.login()
    claims = claims_of(app.access)
    assert claims["exp"] - claims["iat"] == 300


@pytest.mark.parametrize(("seconds", "status"), [(604799, 200), (604800, 401)])
def test_refresh_token_is_valid_for_a_week(app: App, clock: Clock, seconds: int, status: int) -> None:
    later(clock, seconds - 0.25)
    assert app.refresh().status_code == status


def test_rotated_session_is_not_kept_without_its_refresh_token(app: App) -> None:
    app.refresh()
    before = row().rotated_at
    with pytest.raises(TokenNotValid):
        sessions.extend(claims_of(app.refresh_token))
    assert row().rotated_at == before


def test_expired_session_is_not_kept(ann: Any, clock: Clock) -> None:
    session = sessions.start(ann)
    later(clock, 604801)
    with pytest.raises(TokenExpired):
        sessions.extend({"sid": str(session.pk), "sub": str(ann.pk)})
