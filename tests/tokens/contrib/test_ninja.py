"""The guard of django-ninja's operations."""

from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.http import HttpRequest
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI
from ninja.security import APIKeyHeader

from tests.clients import App
from tests.provers import Prover
from tests.urls_tokens import urlpatterns as project
from tokens.contrib.ninja import Refusal, SessionAuth, answer
from tokens.domain import sessions
from tokens.testing import expired_token, reused_token, revoked_token
from tokens.tokens import AccessToken


class Key(APIKeyHeader):
    def authenticate(self, request: HttpRequest, key: str | None) -> str | None:
        return key


plain = NinjaAPI(auth=SessionAuth(), urls_namespace="plain")
handled = NinjaAPI(auth=[SessionAuth(), Key()], urls_namespace="handled")
handled.add_exception_handler(Refusal, answer)


def who(request: Any) -> dict[str, Any]:
    return {"user": str(request.user.pk), "sid": getattr(request.auth, "session", None) and request.auth["sid"]}


async def who_async(request: Any) -> dict[str, Any]:
    return who(request)


for api in (plain, handled):
    api.get("/who")(who)
    api.post("/who")(who)
    api.get("/async")(who_async)

urlpatterns = [*project, path("plain/", plain.urls), path("handled/", handled.urls)]

pytestmark = pytest.mark.urls(__name__)

URLS = ("/plain/who", "/plain/async", "/handled/who", "/handled/async")


def ask(url: str, authorization: str = "", **headers: str) -> Any:
    sent = {"authorization": authorization, **headers} if authorization else headers
    if url.endswith("async"):
        return async_to_sync(AsyncClient().get)(url, headers=sent)
    return Client().get(url, headers=sent)


@pytest.mark.parametrize("url", URLS)
def test_token_of_an_active_session_is_accepted(app: App, ann: Any, url: str) -> None:
    response = ask(url, f"Bearer {app.access}")

    sid = AccessToken(app.access)["sid"]
    assert (response.status_code, response.json()) == (200, {"user": str(ann.pk), "sid": sid})


def test_operation_that_writes_needs_no_csrf_token(app: App) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/plain/who", headers={"authorization": f"Bearer {app.access}"}).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Basic YTpi"])
@pytest.mark.parametrize("url", URLS)
@pytest.mark.usefixtures("db")
def test_request_without_a_token_is_passed_to_the_next_guard(url: str, authorization: str) -> None:
    assert ask(url, authorization).status_code == 401
    assert ask(url, authorization, key="k").status_code == (200 if url.startswith("/handled") else 401)


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
@pytest.mark.parametrize("url", URLS)
def test_token_that_is_refused_is_401(ann: Any, url: str, make: Any, code: str) -> None:
    response = ask(url, f"Bearer {make if isinstance(make, str) else make(ann)}", key="no other guard is asked")

    body = response.json()
    assert response.status_code == 401
    if url.startswith("/handled"):
        assert body["code"] == code
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    else:
        assert [*body] == ["detail"]
        assert body["detail"]


def test_bound_token_needs_the_proof_of_its_key(ann: Any) -> None:
    prover, other = Prover(), Prover()
    token = str(AccessToken.for_user(ann, jkt=prover.jkt))
    url = "http://testserver/handled/who"

    codes = [
        ask("/handled/who", f"{scheme} {token}", **({"dpop": proof} if proof else {})).json().get("code")
        for scheme, proof in (
            ("Bearer", ""),
            ("DPoP", ""),
            ("DPoP", other.prove("GET", url, token)),
            ("DPoP", prover.prove("GET", url, token)),
        )
    ]

    assert codes == ["dpop_proof_required", "dpop_proof_required", "dpop_key_mismatch", None]


@pytest.mark.parametrize("url", URLS)
def test_outage_is_503_and_ends_no_session(app: App, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(sessions, "accept", fail)
        response = ask(url, f"Bearer {app.access}")

    assert response.status_code == 503
    assert response.headers.get("Retry-After") == ("5" if url.startswith("/handled") else None)
    assert ask(url, f"Bearer {app.access}").status_code == 200


def test_schema_names_a_bearer_token() -> None:
    assert plain.get_openapi_schema()["components"]["securitySchemes"] == {
        "SessionAuth": {"type": "http", "scheme": "bearer"}
    }
