"""The token strategy of allauth's headless API, called as allauth calls it. tests/hosts/social tests the whole."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as installed
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_out
from django.db import OperationalError
from django.http import HttpRequest
from django.test import override_settings
from pytest_django import Settings

from tests.provers import Prover
from tokens.domain import sessions
from tokens.http.exchange import STAMP
from tokens.models import Reason, Session
from tokens.tokens import AccessToken, RefreshToken

# Its modules can be imported only if its app is installed. These tests don't use its tables. The admin is left out,
# since it would keep its models.
without_admin = [app for app in installed.INSTALLED_APPS if "admin" not in app.lower()]
with (
    override_settings(MIDDLEWARE=["allauth.account.middleware.AccountMiddleware"]),
    override_settings(INSTALLED_APPS=[*without_admin, "allauth.account"]),
):
    from allauth.core import context
    from allauth.core.exceptions import ImmediateHttpResponse
    from allauth.headless.internal.sessionkit import new_session

    from tokens.contrib.allauth import TokenStrategy

pytestmark = pytest.mark.usefixtures("django_sign_in")

strategy = TokenStrategy()


def federated(request: HttpRequest) -> list[str]:
    return ["fed"]


def refuse(request: HttpRequest) -> None:
    return None


@pytest.fixture
def request_of_ann(ann: Any, rf: Any, settings: Settings) -> Any:
    """The request in which allauth has signed ann in."""
    settings.TOKENS_SESSION_EXCHANGE = f"{__name__}.federated"
    request = rf.post("/_allauth/app/v1/auth/login")
    request.session, request.user = new_session(), AnonymousUser()
    auth.login(request, ann, backend=settings.AUTHENTICATION_BACKENDS[0])
    return request


def begun_by(request: Any) -> tuple[Session, str]:
    """Return the session of ours, and the session token."""
    strategy.create_access_token_payload(request)
    token = strategy.create_session_token(request)
    request.session.save()
    return Session.objects.get(), token


def answer_of(act: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(ImmediateHttpResponse) as refused:
        act()
    response = refused.value.response
    return response.status_code, json.loads(response.content)["code"]


def test_login_starts_one_session_however_often_it_is_requested(request_of_ann: Any, ann: Any) -> None:
    payload = strategy.create_access_token_payload(request_of_ann)
    again = strategy.create_access_token_payload(request_of_ann)

    session = Session.objects.get()
    assert (session.user, session.amr) == (ann, "fed")
    assert payload.keys() == {"access_token", "refresh_token", "expires_in"}
    assert AccessToken(payload["access_token"]).session == RefreshToken(payload["refresh_token"]).session == session
    assert payload["expires_in"] == 900
    assert again["refresh_token"] == payload["refresh_token"]
    assert STAMP not in request_of_ann.session


def test_login_without_methods_names_none(request_of_ann: Any, settings: Settings) -> None:
    settings.TOKENS_SESSION_EXCHANGE = None

    assert begun_by(request_of_ann)[0].amr == ""


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("TOKENS_SECOND_FACTOR", "tests.tokens.factors", "second_factor_required"),
        ("TOKENS_DPOP", "required", "dpop_proof_required"),
        ("TOKENS_SESSION_EXCHANGE", f"{__name__}.refuse", "session_not_exchangeable"),
    ],
)
def test_refusal_is_repeated_and_ends_the_sign_in(
    request_of_ann: Any, settings: Settings, setting: str, value: str, code: str
) -> None:
    setattr(settings, setting, value)

    for _ in range(2):
        assert answer_of(lambda: strategy.create_access_token_payload(request_of_ann)) == (401, code)
    assert request_of_ann.session.is_empty()
    assert not Session.objects.exists()


def test_session_is_bound_to_the_proved_key(request_of_ann: Any) -> None:
    prover = Prover()
    request_of_ann.META["HTTP_DPOP"] = prover.prove("POST", "http://testserver/_allauth/app/v1/auth/login")

    assert begun_by(request_of_ann)[0].jkt == prover.jkt


def test_session_token_is_valid_as_long_as_the_session(request_of_ann: Any) -> None:
    session, token = begun_by(request_of_ann)
    assert strategy.lookup_session(token) is not None

    sessions.revoke(session, Reason.LOGOUT)
    assert strategy.lookup_session(token) is None


def test_session_token_of_an_expired_session_is_refused(request_of_ann: Any) -> None:
    session, token = begun_by(request_of_ann)
    Session.objects.update(expires_at=session.created_at)

    assert strategy.lookup_session(token) is None


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("token", ["made-up", "\0", "\ud800"])
def test_invalid_session_token_is_refused(token: str) -> None:
    assert strategy.lookup_session(token) is None


def test_sign_in_in_progress_is_found(request_of_ann: Any) -> None:
    token = strategy.create_session_token(request_of_ann)
    request_of_ann.session.save()

    found = strategy.lookup_session(token)
    assert found is not None
    assert auth.SESSION_KEY in found


def test_logout_at_allauth_ends_the_session(request_of_ann: Any) -> None:
    session, _ = begun_by(request_of_ann)
    auth.logout(request_of_ann)

    session.refresh_from_db()
    assert session.revoked_reason == Reason.LOGOUT


def test_logout_of_another_session_ends_none(request_of_ann: Any) -> None:
    session, _ = begun_by(request_of_ann)
    for request in (HttpRequest(), None):
        user_logged_out.send(type(session.user), request=request, user=session.user)

    session.refresh_from_db()
    assert session.revoked_at is None


def test_logout_after_the_session_has_ended_is_no_error(request_of_ann: Any) -> None:
    session, _ = begun_by(request_of_ann)
    sessions.revoke(session, Reason.REVOKED)
    auth.logout(request_of_ann)

    session.refresh_from_db()
    assert session.revoked_reason == Reason.REVOKED


def test_refresh_token_is_exchanged(request_of_ann: Any) -> None:
    token = str(RefreshToken.of(begun_by(request_of_ann)[0]))
    renewed = strategy.refresh_token(token)

    assert renewed is not None
    access, refresh = renewed
    assert AccessToken(access)["generation"] == RefreshToken(refresh)["generation"] == 1


def test_refresh_token_stays_without_rotation(request_of_ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "ROTATE_REFRESH_TOKENS": False}
    token = str(RefreshToken.of(begun_by(request_of_ann)[0]))
    renewed = strategy.refresh_token(token)

    assert renewed is not None
    assert renewed[1] == token


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("token", ["made up", "\0", "\ud800"])
def test_invalid_refresh_token_is_refused(token: str) -> None:
    assert strategy.refresh_token(token) is None


def test_refresh_of_a_bound_session_needs_a_proof_with_a_nonce(ann: Any, rf: Any) -> None:
    prover = Prover()
    token = str(RefreshToken.for_user(ann, jkt=prover.jkt))
    url = "http://testserver/_allauth/app/v1/tokens/refresh"
    for headers, code in (({}, "dpop_proof_required"), ({"dpop": prover.prove("POST", url)}, "use_dpop_nonce")):
        with context.request_context(rf.post("/_allauth/app/v1/tokens/refresh", headers=headers)):
            assert answer_of(lambda: strategy.refresh_token(token)) == (401, code)


def test_outage_is_503(request_of_ann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session, token = begun_by(request_of_ann)
    refresh = str(RefreshToken.of(session))
    another = HttpRequest()
    another.session, another.user = request_of_ann.session, request_of_ann.user

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    for verb in ("start", "rotate", "find"):
        monkeypatch.setattr(sessions, verb, fail)
    for act in (
        lambda: strategy.create_access_token_payload(another),
        lambda: strategy.refresh_token(refresh),
        lambda: strategy.lookup_session(token),
    ):
        assert answer_of(act) == (503, "unavailable")
    assert not another.session.is_empty()
