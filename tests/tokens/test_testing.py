"""The tools for a project's tests."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.urls import path
from django.utils.timezone import now
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient as StockClient
from rest_framework.views import APIView

from tests.urls_tokens import urlpatterns as project
from tokens import pytest_plugin
from tokens.authentication import JWTAuthentication
from tokens.exceptions import NoActiveAccount, NotSupported
from tokens.http.errors import exception_handler
from tokens.models import Reason, Session
from tokens.permissions import RecentSignIn
from tokens.testing import APIClient, expired_token, reused_token, revoked_token

latchkey_client = pytest_plugin.latchkey_client


class Guarded(APIView):
    authentication_classes: Any = (JWTAuthentication,)
    permission_classes: Any = (IsAuthenticated,)

    def get_exception_handler(self) -> Any:
        return exception_handler

    def get(self, request: Request) -> Response:
        token: Any = request.auth
        return Response({"user": str(request.user.pk), "amr": token["amr"]})


class Recent(Guarded):
    permission_classes = (RecentSignIn,)


urlpatterns = [*project, path("guarded", Guarded.as_view()), path("recent", Recent.as_view())]

pytestmark = pytest.mark.urls(__name__)

SignIn = dict[str, Any]


def code_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_nobody_has_signed_in_with_the_client_of_the_fixture(db: None, request: pytest.FixtureRequest) -> None:
    client: APIClient = request.getfixturevalue("latchkey_client")
    assert code_of(client.get("/guarded")) == (401, "not_authenticated")


@pytest.mark.parametrize("prefix", ["Bearer", "JWT"])
def test_client_signs_in_by_the_header(latchkey_client: APIClient, ann: Any, settings: Settings, prefix: str) -> None:
    settings.SIMPLE_JWT = {"AUTH_HEADER_TYPES": [prefix]}
    latchkey_client.credentials(HTTP_ACCEPT_LANGUAGE="de")

    session = latchkey_client.sign_in(ann)

    response = latchkey_client.get("/guarded")
    assert (response.status_code, response.data) == (200, {"user": str(ann.pk), "amr": ["pwd"]})
    assert response.wsgi_request.META["HTTP_ACCEPT_LANGUAGE"] == "de"
    assert Session.objects.get() == session == latchkey_client.signed_in
    assert session.remembered
    assert latchkey_client.post("/auth/refresh-token").status_code == 401


def test_client_signs_in_by_the_cookie(latchkey_client: APIClient, ann: Any) -> None:
    latchkey_client.sign_in(ann, transport="cookie")

    cookie = latchkey_client.cookies["refreshToken"]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/auth", True, "Strict")
    assert cookie["max-age"] == 7 * 24 * 3600
    assert latchkey_client.get("/guarded").status_code == 200
    assert latchkey_client.post("/auth/refresh-token").status_code == 200
    assert latchkey_client.post("/auth/logout").status_code == 204
    assert code_of(latchkey_client.get("/guarded")) == (401, "token_revoked")


def test_client_that_is_not_remembered_has_a_session_cookie(latchkey_client: APIClient, ann: Any) -> None:
    session = latchkey_client.sign_in(ann, transport="cookie", remembered=False)

    assert latchkey_client.cookies["refreshToken"]["max-age"] == ""
    assert session.expires_at - session.created_at <= timedelta(hours=12)


def test_client_can_switch_users(latchkey_client: APIClient, ann: Any, django_user_model: Any) -> None:
    ben = django_user_model._default_manager.create_user("ben", email="ben@example.com")
    latchkey_client.sign_in(ann, transport="cookie")

    latchkey_client.sign_in(ben)

    assert latchkey_client.get("/guarded").data["user"] == str(ben.pk)
    assert "refreshToken" not in latchkey_client.cookies


def test_client_supports_two_transports(latchkey_client: APIClient, ann: Any) -> None:
    wrong: Any = "cookies"
    with pytest.raises(ValueError, match=r"The transport must be one of header, cookie, not 'cookies'\."):
        latchkey_client.sign_in(ann, transport=wrong)
    assert not Session.objects.exists()


def test_inactive_user_cannot_be_signed_in(latchkey_client: APIClient, ann: Any) -> None:
    ann.is_active = False
    ann.save()

    for enter in (latchkey_client.sign_in, latchkey_client.force_authenticate):
        with pytest.raises(NoActiveAccount):
            enter(ann)
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 200),
        ({"ago": timedelta(minutes=10)}, 401),
        ({"ago": timedelta(minutes=9)}, 200),
    ],
)
def test_sign_in_time_can_be_chosen(latchkey_client: APIClient, ann: Any, given: SignIn, expected: int) -> None:
    latchkey_client.sign_in(ann, **given)

    assert latchkey_client.get("/guarded").status_code == 200
    assert latchkey_client.get("/recent").status_code == expected


def test_sign_in_past_the_absolute_end_has_expired(latchkey_client: APIClient, ann: Any) -> None:
    session = latchkey_client.sign_in(ann, ago=timedelta(days=90))

    assert code_of(latchkey_client.get("/guarded")) == (401, "token_expired")
    assert session.pk.int >> 80 <= (now() - timedelta(days=90)).timestamp() * 1000


def test_sign_in_methods_can_be_chosen(latchkey_client: APIClient, ann: Any) -> None:
    latchkey_client.sign_in(ann, amr=("pwd", "otp", "mfa"))

    assert latchkey_client.get("/guarded").data["amr"] == ["pwd", "otp", "mfa"]


def test_ended_session_refuses_the_clients_tokens(latchkey_client: APIClient, ann: Any) -> None:
    session = latchkey_client.sign_in(ann, transport="cookie")

    latchkey_client.end_session()

    session.refresh_from_db()
    assert session.revoked_reason == Reason.REVOKED
    assert code_of(latchkey_client.get("/guarded")) == (401, "token_revoked")
    assert code_of(latchkey_client.post("/auth/refresh-token")) == (401, "token_revoked")


def test_ending_without_a_session_does_nothing(latchkey_client: APIClient) -> None:
    with pytest.raises(RuntimeError, match=r"Call sign_in first\."):
        latchkey_client.end_session()


def test_force_authenticate_gives_every_view_a_session(latchkey_client: APIClient, ann: Any) -> None:
    latchkey_client.force_authenticate(ann)

    assert latchkey_client.get("/guarded").status_code == 200
    assert latchkey_client.get("/recent").status_code == 200
    assert code_of(latchkey_client.post("/auth/logout")) == (401, "refresh_token_missing")
    form = "application/x-www-form-urlencoded"
    assert latchkey_client.post("/auth/introspect", "token=x", content_type=form).status_code == 403
    assert latchkey_client.post("/auth/logout-all").status_code == 204
    assert not Session.objects.live().exists()


def test_force_authenticate_without_a_user_works_as_in_drf(
    latchkey_client: APIClient, ann: Any, django_user_model: Any
) -> None:
    latchkey_client.force_authenticate(django_user_model(username="nobody"))
    with pytest.raises(NotSupported, match="needs a session, which force_authenticate of DRF"):
        latchkey_client.post("/auth/logout-all")
    latchkey_client.force_authenticate(ann, token="of its own")
    latchkey_client.force_authenticate()

    assert latchkey_client.get("/guarded").status_code == 401
    assert not Session.objects.exists()


@pytest.mark.parametrize("token", [None, "of its own"])
@pytest.mark.parametrize("url", ["/auth/logout", "/auth/logout-all"])
def test_stock_client_with_force_authenticate_gets_a_hint(ann: Any, url: str, token: Any) -> None:
    client = StockClient()
    client.force_authenticate(ann, token)

    with pytest.raises(NotSupported, match="Use the APIClient from this package's testing"):
        client.post(url)


def test_limits_are_off_by_default_in_tests(latchkey_client: APIClient, ann: Any, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (1, 60.0)}
    wrong = {"username": "ann", "password": "wrong"}

    answers = [latchkey_client.post("/auth/login", wrong, format="json").status_code for _ in range(3)]
    latchkey_client.limits = True
    limited = [latchkey_client.post("/auth/login", wrong, format="json").status_code for _ in range(2)]

    assert (answers, limited) == ([401, 401, 401], [401, 429])


Make = Callable[..., str]


@pytest.mark.parametrize(
    ("make", "code"),
    [(expired_token, "token_expired"), (revoked_token, "token_revoked"), (reused_token, "token_reused")],
)
@pytest.mark.parametrize("leeway", [0, 60])
def test_invalid_tokens_are_refused_for_their_reason(
    latchkey_client: APIClient, ann: Any, settings: Settings, make: Make, code: str, leeway: int
) -> None:
    settings.SIMPLE_JWT = {"LEEWAY": leeway}
    access, refresh = make(ann, kind="access"), make(ann, kind="refresh")

    guarded = latchkey_client.get("/guarded", HTTP_AUTHORIZATION=f"Bearer {access}")
    refreshed = latchkey_client.post("/api/token/refresh/", {"refresh": refresh}, format="json")

    assert (code_of(guarded), code_of(refreshed)) == ((401, code), (401, code))


def test_most_common_kind_is_the_default(latchkey_client: APIClient, ann: Any) -> None:
    for token, code in ((expired_token(ann), "token_expired"), (revoked_token(ann), "token_revoked")):
        assert code_of(latchkey_client.get("/guarded", HTTP_AUTHORIZATION=f"Bearer {token}")) == (401, code)
    body = {"refresh": reused_token(ann)}
    assert code_of(latchkey_client.post("/api/token/refresh/", body, format="json")) == (401, "token_reused")


def test_reuse_ends_the_session(latchkey_client: APIClient, ann: Any) -> None:
    latchkey_client.post("/api/token/refresh/", {"refresh": reused_token(ann)}, format="json")

    assert Session.objects.get().revoked_reason == Reason.REUSED


def test_signed_in_client_works_like_any_other(latchkey_client: APIClient, ann: Any) -> None:
    latchkey_client.sign_in(ann, transport="cookie", ago=timedelta(days=2))

    with time_machine.travel(now() + timedelta(days=6), tick=False):
        assert code_of(latchkey_client.get("/guarded")) == (401, "token_expired")
        assert latchkey_client.post("/auth/refresh-token").status_code == 200
