"""The guard of async views."""

from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient
from django.urls import path
from pytest_django import Settings
from rest_framework.exceptions import APIException

from tests.clients import CHALLENGES, App
from tests.provers import Prover
from tests.urls_tokens import urlpatterns as project
from tokens.contrib import aio
from tokens.domain import sessions
from tokens.models import Reason, Session
from tokens.testing import expired_token, reused_token, revoked_token
from tokens.tokens import AccessToken


@aio.login_required
async def guarded(request: Any, name: str) -> HttpResponse:
    """Say hello."""
    by_django = await request.auser()
    return JsonResponse(
        {"user": str(request.user.pk), "same": by_django is request.user, "sid": request.auth["sid"], "name": name}
    )


async def is_open(request: HttpRequest) -> HttpResponse:
    let_in = await aio.authenticate(request)
    return JsonResponse({"user": let_in and str(let_in[0].pk)})


@aio.login_required
async def broken(request: HttpRequest) -> HttpResponse:
    raise APIException("the view's own")


urlpatterns = [
    *project,
    path("guarded/<name>", guarded),
    path("open", is_open),
    path("broken", broken),
]

pytestmark = pytest.mark.urls(__name__)


def ask(url: str, authorization: str = "", method: str = "get", **headers: str) -> Any:
    sent = {"authorization": authorization, **headers} if authorization else headers
    client = AsyncClient(enforce_csrf_checks=True)
    return async_to_sync(getattr(client, method))(url, headers=sent)


@pytest.mark.parametrize("method", ["get", "post"])
def test_token_of_an_active_session_is_accepted(app: App, ann: Any, method: str) -> None:
    response = ask("/guarded/ann", f"Bearer {app.access}", method)

    assert response.status_code == 200
    sid = str(Session.objects.get().pk)
    assert response.json() == {"user": str(ann.pk), "same": True, "sid": sid, "name": "ann"}
    assert guarded.__name__ == "guarded"
    assert guarded.__doc__ == "Say hello."


def test_view_can_check_the_user_itself(app: App, ann: Any) -> None:
    assert ask("/open", f"Bearer {app.access}").json() == {"user": str(ann.pk)}
    assert ask("/open", "Basic YTpi").json() == {"user": None}


@pytest.mark.parametrize("authorization", ["", "Basic YTpi"])
@pytest.mark.usefixtures("db")
def test_request_without_a_token_is_401(authorization: str) -> None:
    response = ask("/guarded/ann", authorization)

    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response.headers["WWW-Authenticate"] == CHALLENGES
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (expired_token, "token_expired"),
        (revoked_token, "token_revoked"),
        (partial(reused_token, kind="access"), "token_reused"),
        ("", "token_not_valid"),
        ("two words", "token_not_valid"),
        ("\xe9", "token_not_valid"),
    ],
)
def test_token_that_is_refused_is_401_with_its_code(ann: Any, make: Any, code: str) -> None:
    response = ask("/guarded/ann", f"Bearer {make if isinstance(make, str) else make(ann)}")

    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


def test_bound_token_needs_the_proof_of_its_key(ann: Any) -> None:
    prover, other = Prover(), Prover()
    token = str(AccessToken.for_user(ann, jkt=prover.jkt))
    url = "http://testserver/guarded/ann"

    codes = [
        ask("/guarded/ann", f"{scheme} {token}", **({"dpop": proof} if proof else {})).json().get("code")
        for scheme, proof in (
            ("Bearer", ""),
            ("Bearer", prover.prove("GET", url, token)),
            ("DPoP", ""),
            ("DPoP", other.prove("GET", url, token)),
            ("DPoP", prover.prove("POST", url, token)),
            ("DPoP", prover.prove("GET", url, token)),
        )
    ]

    required = "dpop_proof_required"
    assert codes == [required, required, required, "dpop_key_mismatch", "invalid_dpop_proof", None]


def test_outage_is_503_and_ends_no_session(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(sessions, "accept", fail)
        response = ask("/guarded/ann", f"Bearer {app.access}")

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"] == "5"
    assert ask("/guarded/ann", f"Bearer {app.access}").status_code == 200


def test_errors_of_the_view_are_not_changed(app: App) -> None:
    with pytest.raises(APIException, match="the view's own"):
        ask("/broken", f"Bearer {app.access}")


def test_header_follows_the_settings(app: App, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "AUTH_HEADER_NAME": "HTTP_X_TOKEN"}

    assert ask("/guarded/ann", f"Bearer {app.access}").status_code == 401
    assert ask("/guarded/ann", **{"x-token": f"Bearer {app.access}"}).status_code == 200


def test_sync_views_are_refused_at_decoration() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    wrong: Any = view
    with pytest.raises(TypeError, match="login_required guards async views"):
        aio.login_required(wrong)


def test_ended_session_is_refused_immediately(app: App) -> None:
    sessions.revoke(Session.objects.get(), Reason.LOGOUT)

    assert ask("/guarded/ann", f"Bearer {app.access}").json()["code"] == "token_revoked"
