"""The guard."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.clients import CHALLENGES, Browser
from tests.urls_tokens import urlpatterns as project
from tokens.authentication import JWTAuthentication, StatelessJWTAuthentication
from tokens.http.errors import exception_handler

CHALLENGE = 'Bearer realm="api"'


class Guarded(APIView):
    authentication_classes: Any = (JWTAuthentication,)
    permission_classes: Any = (IsAuthenticated,)

    def get_exception_handler(self) -> Any:
        return exception_handler

    def get(self, request: Request) -> Response:
        token: Any = request.auth
        return Response({"user": str(request.user.pk), "session": str(token.session.pk)})


class Stateless(Guarded):
    authentication_classes = (StatelessJWTAuthentication,)

    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response({"user": user.pk, "username": user.username, "groups": user.groups})


class StatelessStaff(Stateless):
    permission_classes = (IsAdminUser,)


urlpatterns = [
    *project,
    path("guarded", Guarded.as_view()),
    path("stateless", Stateless.as_view()),
    path("staff", StatelessStaff.as_view()),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def http() -> APIClient:
    return APIClient()


def test_token_in_the_header_is_accepted(browser: Browser, ann: Any) -> None:
    response = browser.get("/guarded")
    assert response.status_code == 200
    assert response.json()["user"] == str(ann.pk)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_is_case_insensitive(browser: Browser, http: APIClient, scheme: str) -> None:
    assert http.get("/guarded", HTTP_AUTHORIZATION=f"{scheme} {browser.access}").status_code == 200


def test_header_and_schemes_follow_simplejwts_settings(browser: Browser, http: APIClient, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "AUTH_HEADER_TYPES": "JWT"}
    assert http.get("/guarded", HTTP_AUTHORIZATION=f"Bearer {browser.access}").status_code == 401
    assert http.get("/guarded", HTTP_AUTHORIZATION=f"JWT {browser.access}").status_code == 200
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "AUTH_HEADER_NAME": "HTTP_X_TOKEN"}
    assert http.get("/guarded", HTTP_X_TOKEN=f"JWT {browser.access}").status_code == 200


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Token abc", "Bearertoken"])
def test_missing_token_is_not_authenticated(db: None, http: APIClient, header: str | None) -> None:
    headers: dict[str, Any] = {} if header is None else {"HTTP_AUTHORIZATION": header}
    response = http.get("/guarded", **headers)
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == CHALLENGES


@pytest.mark.parametrize("token", ["", " ", "a.b.c", "x y", "\u00e9", "\x00", "a" * 5000])
def test_invalid_token_is_not_valid(db: None, http: APIClient, token: str) -> None:
    response = http.get("/guarded", HTTP_AUTHORIZATION=f"Bearer {token}")
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert response["WWW-Authenticate"] == f'{CHALLENGE}, error="invalid_token"'
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/guarded", "/stateless"])
def test_refresh_token_is_not_an_access_token(browser: Browser, path: str) -> None:
    response = browser.get(path, access=browser.cookie)
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")


@pytest.mark.parametrize("path", ["/guarded", "/stateless"])
def test_expired_token_has_its_own_code(browser: Browser, settings: Settings, path: str) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "ACCESS_TOKEN_LIFETIME": timedelta(seconds=-1)}
    browser.login()
    response = browser.get(path)
    assert (response.status_code, response.json()["code"]) == (401, "token_expired")


def test_access_token_of_an_earlier_generation_stays_valid(browser: Browser) -> None:
    earlier = browser.access
    browser.refresh()
    assert browser.get("/guarded", access=earlier).status_code == 200


def test_stateless_guard_builds_the_user_from_claims(browser: Browser, ann: Any) -> None:
    ann.groups.create(name="editors")
    browser.refresh()
    browser.logout()
    assert browser.get("/stateless").json() == {"user": str(ann.pk), "username": "ann", "groups": ["editors"]}
    assert browser.get("/staff").status_code == 403


def test_stateless_guard_makes_no_query(browser: Browser, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert browser.get("/stateless").status_code == 200


def test_stateless_guard_reads_staff_from_the_claim(ann: Any) -> None:
    ann.is_staff = True
    ann.save()
    browser = Browser()
    browser.login()
    assert browser.get("/staff").status_code == 200
