"""A view that requires a recent sign-in, in the browsable API, whose sign-in is that of a session too."""

from typing import Any

import pytest
from django.urls import include, path
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from time_machine import TimeMachineFixture

from api.browsing import PassAuthentication
from tests.api.people import Person
from tests.api.visitors import Visitor
from tests.clients import CHALLENGES
from tokens.domain import sessions
from tokens.permissions import RecentSignIn


class Sensitive(APIView):
    """A sensitive view."""

    permission_classes: Any = (RecentSignIn,)

    def get(self, request: Request) -> Response:
        return Response({"found": "the secret"})

    def post(self, request: Request) -> Response:
        return Response({"done": True})


class ForVisitors(Sensitive):
    authentication_classes = (PassAuthentication,)


urlpatterns = [
    path("api/sensitive", Sensitive.as_view()),
    path("api/for-visitors", ForVisitors.as_view()),
    path("", include("config.urls")),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.usefixtures("clock")]

CHALLENGE = 'Bearer realm="api", error="insufficient_user_authentication", max_age="600"'
AGAIN = '<a href="/api/sign-in/?next=/api/sensitive">Sign in again.</a>'


@pytest.fixture
def visitor(ann: Person) -> Visitor:
    visitor = Visitor()
    assert visitor.sign_in().status_code == 302
    return visitor


def test_sign_in_is_recent_for_ten_minutes_on_pages(visitor: Visitor, clock: TimeMachineFixture) -> None:
    clock.shift(600)
    page = visitor.get("/api/sensitive")
    assert page.status_code == 200
    assert "the secret" in page.content.decode()
    assert AGAIN not in page.content.decode()
    assert visitor.send("POST", "/api/sensitive").status_code == 200

    clock.shift(1)
    page = visitor.get("/api/sensitive")
    assert (page.status_code, page["WWW-Authenticate"]) == (401, CHALLENGE)
    shown = page.content.decode()
    assert "reauthentication_required" in shown
    assert "the secret" not in shown
    assert AGAIN in shown
    assert visitor.send("POST", "/api/sensitive").status_code == 401


def test_visitor_stays_signed_in_for_other_views(visitor: Visitor, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    page = visitor.get("/api/sensitive")
    assert visitor.cookie
    assert "Your session has ended." not in page.content.decode()
    assert visitor.get("/api/me/").status_code == 200


def test_visitor_who_signs_in_again_returns_to_the_view(visitor: Visitor, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    assert visitor.sign_in(next="/api/sensitive")["Location"] == "/api/sensitive"
    assert visitor.get("/api/sensitive").status_code == 200


def test_renewed_sign_in_opens_the_view(visitor: Visitor, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    sessions.reauthenticate(visitor.session)
    assert visitor.get("/api/sensitive").status_code == 200


def test_refusal_is_401_for_views_with_page_sessions_only(visitor: Visitor, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    page = visitor.get("/api/for-visitors")
    assert (page.status_code, page["WWW-Authenticate"]) == (401, CHALLENGE)


def test_anonymous_user_is_asked_to_sign_in(ann: Person) -> None:
    page = Visitor().get("/api/sensitive")
    assert (page.status_code, page["WWW-Authenticate"]) == (401, CHALLENGES)
    assert "not_authenticated" in page.content.decode()
    assert AGAIN not in page.content.decode()


def test_program_gets_json(ann: Person, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    response = ann.call("get", "/api/sensitive")
    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_required")
    assert response["WWW-Authenticate"] == CHALLENGE


def test_other_sites_may_read_the_challenge(ann: Person, settings: Settings, clock: TimeMachineFixture) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    clock.shift(601)
    response = ann.call("get", "/api/sensitive", HTTP_ORIGIN="https://app.example")
    assert response.status_code == 401
    assert "WWW-Authenticate" in response["Access-Control-Expose-Headers"]
