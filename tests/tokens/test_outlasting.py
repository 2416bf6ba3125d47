"""Requests whose transaction is rolled back, as with ATOMIC_REQUESTS."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import OperationalError, connections, transaction
from django.urls import include, path
from pytest_django import Settings
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient

from tests.clients import PASSWORD, App
from tests.tokens.test_checks import Urls
from tokens import views
from tokens.authentication import JWTAuthentication
from tokens.domain import limits
from tokens.domain.outlasting import outlast
from tokens.exceptions import InvalidToken, TokenError
from tokens.models import Bucket, SecurityEvent, Session
from tokens.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from tokens.tokens import RefreshToken

pytestmark = pytest.mark.django_db(transaction=True)


@api_view()
@authentication_classes([JWTAuthentication])
def guarded(request: Request) -> Response:
    return Response(connections["default"].in_atomic_block)


def open_view(serializer: Any) -> Any:
    @api_view(["POST"])
    @authentication_classes([])
    @permission_classes([])
    def view(request: Request) -> Response:
        given = serializer(data=request.data, context={"request": request})
        try:
            given.is_valid(raise_exception=True)
        except TokenError as error:
            raise InvalidToken(error.args[0]) from error
        return Response(given.validated_data)

    return view


@pytest.fixture(autouse=True)
def atomic_requests(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    settings.ROOT_URLCONF = Urls(
        path("", include("tokens.urls")),
        path("guarded", guarded),
        path("login", open_view(TokenObtainPairSerializer)),
        path("refresh", open_view(TokenRefreshSerializer)),
    )


def post(url: str, **body: str) -> Any:
    return APIClient().post(url, body, format="json")


def get_guarded(token: Any) -> Any:
    return APIClient().get("/guarded", HTTP_AUTHORIZATION=f"Bearer {token}")


def undo(*acts: Callable[[], object]) -> None:
    """Call these in a transaction that is rolled back."""
    with transaction.atomic():
        for act in acts:
            act()
        transaction.set_rollback(True)


def events_of(kind: str) -> int:
    return SecurityEvent.objects.filter(kind=kind).count()


def is_a_view(value: Any) -> bool:
    is_one = isinstance(value, type) and issubclass(value, views.OwnTransactions)
    return is_one and not issubclass(value, views.SlidingView)


def test_project_views_are_wrapped_and_ours_are_not(app: App) -> None:
    assert get_guarded(app.access).data is True
    ours: list[Any] = [value for value in vars(views).values() if is_a_view(value)]
    assert len(ours) > 10
    for view in ours:
        assert set(connections) == view.as_view()._non_atomic_requests


def test_session_ended_by_the_guard_stays_ended(app: App) -> None:
    Session.objects.update(generation=1)
    given_up = str(RefreshToken.of(Session.objects.get()).access_token)
    Session.objects.update(generation=2)
    assert get_guarded(given_up).status_code == 401
    assert Session.objects.get().revoked_reason == "reused"
    assert events_of("token_reused") == 1
    assert get_guarded(app.access).status_code == 401


def test_reuse_in_a_project_view_ends_the_session(app: App, settings: Settings) -> None:
    settings.TOKENS_LATE_RETRY = False
    Session.objects.update(generation=1, rotated_at="2020-01-01T00:00:00Z")
    assert post("/refresh", refresh=app.refresh_token).status_code == 403
    assert Session.objects.get().revoked_reason == "reused"
    assert events_of("token_reused") == 1


def test_guesses_in_a_project_view_are_counted(ann: Any, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (2, 600)}
    answers = [post("/login", username="ann", password="wrong").status_code for _ in range(4)]
    assert answers == [403, 403, 429, 429]
    assert SecurityEvent.objects.get(kind="login_failed").count == 2


def test_committed_work_is_not_repeated(ann: Any) -> None:
    done = []
    with transaction.atomic():
        outlast(lambda: done.append("again"), "default")
    request_finished.send(None)
    assert done == []
    assert post("/login", username="ann", password=PASSWORD).status_code == 200
    assert events_of("login") == 1


def test_nothing_is_repeated_without_atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    outlast(lambda: done.append("outside"), "default")
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", False)
    undo(lambda: outlast(lambda: done.append("unwrapped"), "default"))
    request_finished.send(None)
    assert done == []


def test_outage_is_logged_and_the_next_step_still_runs(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def fail() -> None:
        raise OperationalError("gone")

    undo(lambda: outlast(fail, "default"), lambda: outlast(lambda: done.append("again"), "default"))
    with caplog.at_level(logging.WARNING):
        request_finished.send(None)
        request_finished.send(None)
    assert done == ["again"]
    assert [record.getMessage() for record in caplog.records] == [
        "A write that a rolled-back request lost could not be repeated: OperationalError: gone"
    ]


def test_repeated_try_over_the_limit_is_no_error(settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (1, 600)}
    undo(lambda: limits.spend("login", "ann"))
    limits.spend("login", "ann")
    filled = list(Bucket.objects.values())
    request_finished.send(None)
    assert list(Bucket.objects.values()) == filled
