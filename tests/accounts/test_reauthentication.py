"""Entering the password again, as stories: ann has two browsers, and a thief has an access token of one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.accounts.devices import Enrolled, challenge, set_up
from tests.clients import PASSWORD, App, Browser, claims_of
from tests.racing import in_parallel, just_before
from tokens.authentication import StatelessJWTAuthentication
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session
from tokens.permissions import RecentSignIn


class Sensitive(APIView):
    permission_classes = (RecentSignIn,)

    def get(self, request: Request) -> Response:
        return Response("done")


class Stateless(Sensitive):
    authentication_classes = (StatelessJWTAuthentication,)


urlpatterns = [
    path("", include("config.urls")),
    path("sensitive", Sensitive.as_view()),
    path("stateless", Stateless.as_view()),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("clock")]

WRONG_PASSWORD = {"currentPassword": ["That password is wrong."]}
CODE_REQUIRED = {"code": ["Enter the code from your authenticator app, or a recovery code."]}
WRONG_CODE = {"code": ["This code is wrong or was already used."]}
UPDATE = 'UPDATE "latchkey_session"'


@pytest.fixture
def ann_has(browser: Browser, clock: TimeMachineFixture) -> Enrolled:
    """A second factor that ann enabled a while ago."""
    enrolled = set_up(browser)
    clock.shift(300)
    return enrolled


def session_of(client: Browser | App) -> Session:
    session: Session = Session.objects.get(pk=claims_of(client.access)["sid"])
    return session


def events() -> list[SecurityEvent]:
    return list(SecurityEvent.objects.filter(kind="reauthenticated"))


def said(browser: Browser, url: str = "/sensitive") -> Any:
    response = browser.get(url)
    return response.json()["code"] if response.status_code == 401 else response.json()


def rows() -> list[dict[str, Any]]:
    """Return the sessions, without the field that every accepted token changes."""
    return [{**row, "confirmed": None} for row in Session.objects.order_by("pk").values()]


@contextmanager
def unchanged() -> Iterator[None]:
    """Expect that no session changes, and that none is renewed."""
    before = rows()
    yield
    assert rows() == before
    assert not events()


# Stories


def test_giving_the_password_again_renews_the_sign_in(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    assert (said(browser), said(browser, "/stateless")) == ("reauthentication_required",) * 2
    cookie, former = browser.cookie, browser.access

    response = browser.reauthenticate()

    assert response.status_code == 200
    assert response.json() == {"accessToken": browser.access, "tokenType": "Bearer", "expiresIn": 900}
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert browser.cookie == cookie
    assert (said(browser), said(browser, "/stateless")) == ("done", "done")
    before, after = claims_of(former), claims_of(browser.access)
    assert after["auth_time"] == before["auth_time"] + 601
    assert (after["sid"], after["generation"]) == (before["sid"], before["generation"])
    assert after["jti"] != before["jti"]


def test_later_refreshes_carry_the_time_of_the_renewal(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(500)
    browser.reauthenticate()
    given_at = claims_of(browser.access)["auth_time"]
    for seconds in (300, 300):
        clock.shift(seconds)
        assert browser.refresh().status_code == 200
        assert claims_of(browser.access)["auth_time"] == given_at
        assert said(browser, "/stateless") == "done"
    clock.shift(1)
    browser.refresh()
    assert (said(browser), said(browser, "/stateless")) == ("reauthentication_required",) * 2


def test_renewal_in_one_browser_does_not_affect_another(browser: Browser, clock: TimeMachineFixture) -> None:
    phone = Browser()
    phone.login()
    clock.shift(601)
    phone.refresh()
    browser.refresh()
    assert browser.reauthenticate().status_code == 200
    assert (said(browser), said(phone)) == ("done", "reauthentication_required")
    phone.refresh()
    assert said(phone) == "reauthentication_required"
    assert session_of(phone).authenticated_at == session_of(phone).created_at


def test_thief_with_an_access_token_gets_no_further(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    thief = Browser()
    thief.access = browser.access
    with unchanged():
        response = thief.reauthenticate("guess")
    assert (response.status_code, response.json()) == (400, WRONG_PASSWORD)
    assert said(thief) == "reauthentication_required"
    log = browser.get("/api/security-events/").json()["results"]
    assert log[0]["kind"] == "login_failed"


def test_app_renews_and_keeps_its_refresh_token(ann: User, clock: TimeMachineFixture) -> None:
    app, browser = App(), Browser()
    app.login()
    clock.shift(601)
    browser.access = app.access
    assert browser.reauthenticate().status_code == 200
    assert said(browser) == "done"
    assert app.refresh().status_code == 200
    assert claims_of(app.access)["auth_time"] == claims_of(browser.access)["auth_time"]


def test_renewal_is_logged_with_the_session_and_the_client(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(1)
    browser.reauthenticate()
    (event,) = events()
    assert (event.session, event.ip_address) == (session_of(browser).pk, "127.0.0.1")
    assert "Firefox" in event.user_agent
    log = browser.get("/api/security-events/").json()["results"]
    assert log[0]["kind"] == "reauthenticated"


def test_renewal_changes_neither_the_expiry_nor_remember(ann: User, clock: TimeMachineFixture) -> None:
    browser = Browser()
    browser.login(remember=False)
    before = session_of(browser)
    clock.shift(601)
    assert browser.reauthenticate().status_code == 200
    after = session_of(browser)
    same = ("remembered", "created_at", "rotated_at", "expires_at", "generation", "predecessor", "confirmed")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert browser.refresh().cookies["refreshToken"]["max-age"] == ""


def test_access_token_does_not_outlive_the_session(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_SESSION_LIFETIME = timedelta(minutes=5)
    response = browser.reauthenticate()
    assert response.json()["expiresIn"] == 300


# With a refresh whose answer is lost


def test_lost_refresh_can_be_retried_after_a_renewal(browser: Browser, clock: TimeMachineFixture) -> None:
    first, access = browser.cookie, browser.access
    browser.refresh()
    browser.cookie, browser.access = first, access  # the answer was lost
    assert browser.reauthenticate().status_code == 200
    assert said(browser) == "done"
    assert not session_of(browser).confirmed
    clock.shift(11)
    assert browser.refresh().status_code == 200
    assert said(browser) == "done"
    assert session_of(browser).revoked_at is None


def test_renewed_token_still_works_after_a_late_retry(browser: Browser, clock: TimeMachineFixture) -> None:
    first, access = browser.cookie, browser.access
    browser.refresh()
    browser.cookie, browser.access = first, access
    browser.reauthenticate()
    renewed = browser.access
    clock.shift(11)
    browser.refresh()
    assert browser.get("/sensitive", access=renewed).status_code == 200


def test_given_up_access_token_is_reuse_at_a_renewal(browser: Browser, clock: TimeMachineFixture) -> None:
    first = browser.cookie
    browser.refresh()
    lost = browser.access
    clock.shift(11)
    browser.refresh(first)
    browser.access = lost
    response = browser.reauthenticate()
    assert (response.status_code, response.json()["code"]) == (401, "token_reused")
    assert not events()


# What is refused


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"currentPassword": ["This field is required."]}),
        ({"currentPassword": None}, {"currentPassword": ["This field may not be null."]}),
        ({"currentPassword": ""}, {"currentPassword": ["This field may not be blank."]}),
        ({"currentPassword": ["x"]}, {"currentPassword": ["Not a valid string."]}),
        ({"currentPassword": "wrong"}, WRONG_PASSWORD),
        ({"currentPassword": f" {PASSWORD}"}, WRONG_PASSWORD),
        ({"currentPassword": PASSWORD, "code": None}, {"code": ["This field may not be null."]}),
        ({"currentPassword": PASSWORD, "code": ""}, {"code": ["This field may not be blank."]}),
        ({"currentPassword": PASSWORD, "code": {}}, {"code": ["Not a valid string."]}),
    ],
)
def test_malformed_or_wrong_input_is_a_field_error(browser: Browser, body: Any, errors: Any) -> None:
    with unchanged():
        response = browser.post("/auth/reauthenticate", body, browser.access)
    assert (response.status_code, response.json()) == (400, errors)


@pytest.mark.parametrize("access", ["", "a.b.c"])
def test_access_token_is_needed(browser: Browser, access: str) -> None:
    browser.access = access
    with unchanged():
        response = browser.reauthenticate()
    code = "token_not_valid" if access else "not_authenticated"
    assert (response.status_code, response.json()["code"]) == (401, code)


def test_refresh_token_is_not_accepted(browser: Browser) -> None:
    browser.access = browser.cookie
    assert browser.reauthenticate().json()["code"] == "token_not_valid"


def test_password_guesses_share_the_limits_of_every_other_door(
    browser: Browser, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_LIMITS = {"password": (2, 60.0)}
    change = {"currentPassword": "wrong", "newPassword": "another horse battery"}
    assert browser.post("/auth/password/change", change, browser.access).status_code == 400
    with unchanged():
        assert browser.reauthenticate("wrong").status_code == 400
        response = browser.reauthenticate()
    assert (response.status_code, response.json()["code"], response["Retry-After"]) == (429, "throttled", "60")
    clock.shift(59)
    assert browser.reauthenticate().status_code == 429
    clock.shift(1)
    assert browser.reauthenticate().status_code == 200
    assert [browser.reauthenticate("wrong").status_code for _ in range(3)] == [400, 400, 429]


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_are_counted_exactly(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"password": (3, 60.0)}

    def guess() -> Any:
        thief = Browser()
        thief.access = browser.access
        return thief.reauthenticate("wrong").status_code

    assert sorted(in_parallel(*[guess] * 8)) == [400] * 3 + [429] * 5


# With a second factor


def test_code_is_required_as_well(browser: Browser, ann_has: Enrolled, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    browser.refresh()
    with unchanged():
        response = browser.reauthenticate()
    assert (response.status_code, response.json()) == (400, CODE_REQUIRED)
    assert said(browser) == "reauthentication_required"

    response = browser.reauthenticate(code=ann_has.device.code())
    assert response.status_code == 200
    assert said(browser) == "done"
    assert claims_of(browser.access)["amr"] == ["pwd", "otp"]


def test_token_names_the_methods_of_the_renewal(browser: Browser, ann_has: Enrolled) -> None:
    browser.refresh()
    assert claims_of(browser.access)["amr"] == ["pwd"]
    assert browser.reauthenticate(code=ann_has.codes[0]).status_code == 200
    assert claims_of(browser.access)["amr"] == ["pwd", "mfa"]
    browser.refresh()
    assert claims_of(browser.access)["amr"] == ["pwd", "mfa"]


def test_wrong_code_renews_nothing(browser: Browser, ann_has: Enrolled) -> None:
    browser.refresh()
    with unchanged():
        response = browser.reauthenticate(code=ann_has.device.wrong())
    assert (response.status_code, response.json()) == (400, WRONG_CODE)
    assert SecurityEvent.objects.filter(kind="second_factor_failed").count() == 1


def test_code_works_once_across_all_doors(browser: Browser, ann_has: Enrolled) -> None:
    code = ann_has.device.code()
    assert Browser().answer(challenge(), code).status_code == 200
    browser.refresh()
    with unchanged():
        assert browser.reauthenticate(code=code).json() == WRONG_CODE
    assert browser.reauthenticate(code=ann_has.device.code(1)).status_code == 200
    assert browser.reauthenticate(code=ann_has.device.code(1)).json() == WRONG_CODE


def test_password_is_checked_before_the_code_is_used_up(browser: Browser, ann_has: Enrolled) -> None:
    code = ann_has.device.code()
    browser.refresh()
    with unchanged():
        assert browser.reauthenticate("wrong", code=code).json() == WRONG_PASSWORD
    assert browser.reauthenticate(code=code).status_code == 200


def test_code_tries_share_one_limit(browser: Browser, ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    wrong = ann_has.device.wrong()
    browser.refresh()
    assert Browser().answer(challenge(), wrong).status_code == 401
    assert browser.reauthenticate(code=wrong).status_code == 400
    with unchanged():
        response = browser.reauthenticate(code=ann_has.device.code())
    assert (response.status_code, response["Retry-After"]) == (429, "300")


def test_missing_code_is_not_counted_as_a_try(browser: Browser, ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (1, 300.0)}
    browser.refresh()
    assert [browser.reauthenticate().json() for _ in range(3)] == [CODE_REQUIRED] * 3
    assert browser.reauthenticate(code=ann_has.device.code()).status_code == 200


def test_code_is_ignored_without_a_second_factor(browser: Browser) -> None:
    assert browser.reauthenticate(code="123456").status_code == 200
    assert claims_of(browser.access)["amr"] == ["pwd"]


# In a chosen order


def change_password() -> None:
    user = User.objects.get()
    user.set_password("another horse battery")
    user.save()


@pytest.mark.parametrize(
    ("statement", "act", "status", "answer"),
    [
        (UPDATE, lambda: sessions.revoke(Session.objects.get(), Reason.LOGOUT), 401, "token_revoked"),
        ("SAVEPOINT", lambda: sessions.revoke(Session.objects.get(), Reason.LOGOUT), 401, "token_revoked"),
        (UPDATE, lambda: Session.objects.all().delete(), 401, "token_revoked"),
        ("SAVEPOINT", change_password, 400, None),
        ("SAVEPOINT", lambda: User.objects.update(is_active=False), 400, None),
    ],
    ids=["logout", "logout, earlier", "deletion", "password", "deactivation"],
)
def test_session_that_ended_first_is_not_renewed(
    browser: Browser,
    clock: TimeMachineFixture,
    statement: str,
    act: Callable[[], Any],
    status: int,
    answer: str | None,
) -> None:
    clock.shift(601)
    with just_before(statement, act):
        response = browser.reauthenticate()
    assert response.status_code == status
    if answer:
        assert response.json()["code"] == answer
        assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    else:
        assert response.json() == WRONG_PASSWORD
    assert not events()
    assert all(session.authenticated_at == session.created_at for session in Session.objects.all())


@pytest.mark.django_db(transaction=True)
def test_parallel_logout_and_renewal_are_serialised(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    renewing = Browser()
    renewing.access = browser.access
    out, renewed = in_parallel(browser.logout, renewing.reauthenticate)
    assert out.status_code == 204
    assert renewed.status_code == 200 or renewed.json()["code"] == "token_revoked"
    assert len(events()) == (1 if renewed.status_code == 200 else 0)
    assert said(renewing) == "token_revoked"


@pytest.mark.django_db(transaction=True)
def test_parallel_refresh_is_not_disturbed(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    renewing = Browser()
    renewing.access = browser.access
    answers = in_parallel(browser.refresh, renewing.reauthenticate)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert said(renewing) == "done"
    assert session_of(browser).generation == 1
    clock.shift(11)
    assert browser.refresh().status_code == 200
    assert said(browser) == "done"


# What it costs


@pytest.mark.django_db(transaction=True)
def test_renewal_costs_eleven_statements_and_a_refresh_still_two(
    browser: Browser, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_THROTTLING = False
    acts: list[tuple[Callable[[], Any], int]] = [
        (browser.reauthenticate, 11),
        (browser.refresh, 2),
        (lambda: browser.get("/sensitive"), 4),  # the first use after a rotation confirms it; two read the factors
        (lambda: browser.get("/sensitive"), 3),
    ]
    for act, expected in acts:
        with CaptureQueriesContext(connection) as captured:
            assert act().status_code == 200
        assert len(captured) == expected, [query["sql"] for query in captured]
