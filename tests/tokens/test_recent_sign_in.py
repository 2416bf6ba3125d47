"""Views that require a recent sign-in, behind either guard."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.urls import path
from django.utils import timezone
from pytest_django import Settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView, exception_handler
from time_machine import TimeMachineFixture

from tests.clients import CHALLENGES, PASSWORD, Browser, claims_of
from tests.urls_tokens import urlpatterns as project
from tokens.authentication import JWTAuthentication, StatelessJWTAuthentication
from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.exceptions import TokenRevoked
from tokens.http import errors
from tokens.models import Reason, SecurityEvent, Session
from tokens.permissions import RecentSignIn
from tokens.signals import session_reauthenticated
from tokens.tokens import AccessToken

Clock = TimeMachineFixture

PHONE = Client("203.0.113.9", "Phone")


class JustNow(RecentSignIn):
    max_age = timedelta(minutes=1)


class Sensitive(APIView):
    authentication_classes: Any = (JWTAuthentication,)
    permission_classes: Any = (RecentSignIn,)

    def get_exception_handler(self) -> Any:
        return errors.exception_handler

    def get(self, request: Request) -> Response:
        return Response("done")


class Stateless(Sensitive):
    authentication_classes = (StatelessJWTAuthentication,)


class VerySensitive(Sensitive):
    permission_classes = (JustNow,)


class ForStaff(Sensitive):
    permission_classes = (IsAdminUser & RecentSignIn,)


class WithoutChallenge(Sensitive):
    """DRF takes the challenge of the first authenticator; Django's session authentication has none."""

    authentication_classes = (SessionAuthentication, JWTAuthentication)


class StockHandler(Sensitive):
    def get_exception_handler(self) -> Any:
        return exception_handler


urlpatterns = [
    *project,
    path("sensitive", Sensitive.as_view()),
    path("stateless", Stateless.as_view()),
    path("very-sensitive", VerySensitive.as_view()),
    path("for-staff", ForStaff.as_view()),
    path("without-challenge", WithoutChallenge.as_view()),
    path("stock-handler", StockHandler.as_view()),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("clock")]

BOTH = pytest.mark.parametrize("url", ["/sensitive", "/stateless"])


@pytest.fixture(autouse=True)
def long_lived(settings: Settings) -> None:
    """Make access tokens live longer than the tested limit."""
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "ACCESS_TOKEN_LIFETIME": timedelta(hours=1)}


def row() -> Session:
    session: Session = Session.objects.select_related("user").get()
    return session


def assert_too_old(response: Any, max_age: int = 600, way: str = "Enter your password again.") -> None:
    assert response.status_code == 401
    assert response.json() == {
        "detail": f"This needs a recent sign-in. {way}",
        "code": "reauthentication_required",
    }
    assert response["WWW-Authenticate"] == (
        f'Bearer realm="api", error="insufficient_user_authentication", max_age="{max_age}"'
    )


@BOTH
def test_sign_in_is_recent_for_ten_minutes(browser: Browser, clock: Clock, url: str) -> None:
    assert browser.get(url).status_code == 200
    clock.shift(600)
    assert browser.get(url).status_code == 200
    clock.shift(1)
    assert_too_old(browser.get(url))


@BOTH
def test_refresh_does_not_count_as_a_sign_in(browser: Browser, clock: Clock, url: str) -> None:
    clock.shift(601)
    assert browser.refresh().status_code == 200
    assert_too_old(browser.get(url))


@BOTH
@pytest.mark.parametrize(("seconds", "status"), [(30, 200), (31, 401)])
def test_recent_sign_in_limit_is_a_setting(
    browser: Browser, clock: Clock, settings: Settings, url: str, seconds: int, status: int
) -> None:
    settings.TOKENS_RECENT_SIGN_IN = timedelta(seconds=30)
    clock.shift(seconds)
    assert browser.get(url).status_code == status


def test_view_can_have_its_own_limit(browser: Browser, clock: Clock) -> None:
    clock.shift(60)
    assert browser.get("/very-sensitive").status_code == 200
    clock.shift(1)
    assert_too_old(browser.get("/very-sensitive"), 60)
    assert browser.get("/sensitive").status_code == 200


@BOTH
def test_anonymous_request_is_refused_as_everywhere(db: None, url: str) -> None:
    response = APIClient().get(url)
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == CHALLENGES


@BOTH
def test_bad_token_is_refused_as_everywhere(browser: Browser, url: str) -> None:
    response = browser.get(url, access="a.b.c")
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")


def test_users_without_permission_are_not_asked_to_sign_in_again(browser: Browser, ann: Any, clock: Clock) -> None:
    clock.shift(601)
    assert browser.get("/for-staff").status_code == 403
    type(ann)._default_manager.update(is_staff=True)
    assert_too_old(browser.get("/for-staff"))


def test_refusal_is_the_same_beside_other_authentication_classes(browser: Browser, clock: Clock) -> None:
    clock.shift(601)
    assert_too_old(browser.get("/without-challenge"))


def test_refusal_has_its_status_and_challenge_without_our_handler(browser: Browser, clock: Clock) -> None:
    clock.shift(601)
    response = browser.get("/stock-handler")
    assert response.status_code == 401
    assert 'max_age="600"' in response["WWW-Authenticate"]
    assert response.data["detail"].code == "reauthentication_required"


@pytest.mark.parametrize(
    ("factor", "way"),
    [
        (None, "Sign in again."),
        ("tests.tokens.factors.PIN", "Confirm that it's you with your second factor, or sign in again."),
    ],
)
def test_user_without_a_password_is_told_another_way(
    ann: Any, settings: Settings, clock: Clock, factor: str | None, way: str
) -> None:
    ann.set_unusable_password()
    ann.save()
    settings.TOKENS_SECOND_FACTOR = factor
    browser = Browser()
    browser.access = str(AccessToken.for_user(ann))
    clock.shift(601)
    assert_too_old(browser.get("/sensitive"), way=way)


def test_session_without_a_sign_in_time_is_refused(ann: Any) -> None:
    http = APIClient()
    assert http.login(username="ann", password=PASSWORD)
    assert_too_old(http.get("/without-challenge"))


@BOTH
def test_renewal_does_not_refresh_a_copied_older_token(browser: Browser, clock: Clock, url: str) -> None:
    clock.shift(601)
    sessions.reauthenticate(row())
    assert_too_old(browser.get(url))
    browser.refresh()
    assert browser.get(url).status_code == 200


@BOTH
def test_sign_in_time_in_the_future_is_ignored(browser: Browser, clock: Clock, url: str) -> None:
    clock.shift(-60)
    assert browser.get(url).status_code == 200
    Session.objects.update(created_at=timezone.now() + timedelta(days=30))
    browser.refresh()
    assert claims_of(browser.access)["auth_time"] > timezone.now().timestamp() + 86400
    assert_too_old(browser.get(url))


def test_guard_costs_no_extra_statement_without_second_factors(
    browser: Browser, settings: Settings, django_assert_num_queries: Any
) -> None:
    settings.TOKENS_SECOND_FACTOR = None
    with django_assert_num_queries(1):
        assert browser.get("/sensitive").status_code == 200
    with django_assert_num_queries(0):
        assert browser.get("/stateless").status_code == 200


# The verb


def test_sign_in_is_renewed_without_a_rotation(browser: Browser, clock: Clock) -> None:
    before, token = row(), browser.cookie
    clock.shift(601)
    heard: list[Any] = []

    def hear(session: Session, client: Client, **kwargs: Any) -> None:
        heard.append((session.pk, client))

    session_reauthenticated.connect(hear)
    sessions.reauthenticate(row(), PHONE, ["pwd", "otp"])
    session_reauthenticated.disconnect(hear)

    after = row()
    assert after.authenticated_at == datetime(2030, 1, 1, 12, 10, 1, tzinfo=UTC)
    assert after.amr == "pwd otp"
    same = ("created_at", "rotated_at", "expires_at", "generation", "predecessor", "confirmed", "ip_address")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert heard == [(after.pk, PHONE)]
    event = SecurityEvent.objects.get(kind="reauthenticated")
    assert (event.session, event.ip_address, event.user_agent) == (after.pk, "203.0.113.9", "Phone")
    assert browser.cookie == token
    assert browser.refresh().status_code == 200
    claims = claims_of(browser.access)
    assert (claims["auth_time"], claims["amr"]) == (int(after.authenticated_at.timestamp()), ["pwd", "otp"])


def test_session_that_has_ended_is_not_renewed(browser: Browser, clock: Clock) -> None:
    session = row()
    clock.shift(601)
    sessions.revoke(row(), Reason.LOGOUT)
    with pytest.raises(TokenRevoked):
        sessions.reauthenticate(session)
    assert row().authenticated_at == row().created_at
    assert session.authenticated_at == session.created_at
    assert not SecurityEvent.objects.filter(kind="reauthenticated").exists()


def test_expired_idle_session_is_not_renewed(browser: Browser, clock: Clock, settings: Settings) -> None:
    """Ending all sessions finds those that can still be refreshed, so no other session may go on."""
    settings.SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(minutes=5)}
    session = sessions.start(row().user)
    clock.shift(299)
    sessions.reauthenticate(session)
    renewed = AccessToken.of(session).renew()
    assert renewed["exp"] == int(session.expires_at.timestamp())
    assert renewed.expires_in == 1
    clock.shift(1)
    with pytest.raises(TokenRevoked):
        sessions.reauthenticate(session)


def test_sign_in_time_starts_at_the_login(browser: Browser) -> None:
    assert row().authenticated_at == row().created_at
    assert claims_of(browser.access)["auth_time"] == int(row().created_at.timestamp())


def test_renewed_token_keeps_the_generation(ann: Any) -> None:
    token = AccessToken.for_user(ann)
    sessions.rotate({**claims_of(str(token)), "jti": row().jti(0)})
    renewed = AccessToken.from_claims(token.payload, row()).renew()
    assert (row().generation, renewed["generation"]) == (1, 0)
    assert renewed["jti"] != token["jti"]
