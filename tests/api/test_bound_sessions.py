"""Sessions that are bound to a key, in the project as a whole."""

from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.clients import PASSWORD, Browser, claims_of
from tests.provers import Prover, ProvingClient
from tokens.jose import dpop
from tokens.models import Reason, Session
from tokens.tokens import RefreshToken

SITE = "http://testserver"


@pytest.fixture
def prover() -> Prover:
    return Prover()


@pytest.fixture
def browser(db: None, prover: Prover) -> Browser:
    """A browser in which ann has signed in with her key."""
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    browser = Browser()
    browser.http = ProvingClient(prover)
    assert browser.login().status_code == 200
    return browser


def call(token: str, path: str, proof: str, **extra: Any) -> Any:
    return APIClient().get(path, HTTP_AUTHORIZATION=f"DPoP {token}", HTTP_DPOP=proof, **extra)


@pytest.mark.parametrize("path", ["/api/me", "/api/me/"])
@pytest.mark.parametrize("proven", ["/api/me", "/api/me/"])
def test_proof_covers_the_path_as_sent(browser: Browser, prover: Prover, path: str, proven: str) -> None:
    response = call(browser.access, path, prover.prove("GET", SITE + proven, browser.access))
    assert response.status_code == (200 if path == proven else 401)


def test_proof_may_name_the_public_url(browser: Browser, prover: Prover, settings: Settings) -> None:
    proof = prover.prove("GET", f"{settings.PUBLIC_URL}/api/me", browser.access)
    assert call(browser.access, "/api/me", proof).status_code == 200


def test_trusted_proxies_define_the_url_that_was_called(browser: Browser, prover: Prover, settings: Settings) -> None:
    settings.TRUSTED_PROXIES, settings.USE_X_FORWARDED_HOST = 1, True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["auth.example.com"]
    forwarded = {
        "HTTP_X_FORWARDED_FOR": "192.0.2.7",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "auth.example.com",
    }
    proof = prover.prove("GET", "https://auth.example.com/api/me/", browser.access)
    assert call(browser.access, "/api/me/", proof, **forwarded).status_code == 200


def test_list_of_sessions_shows_which_are_bound(browser: Browser) -> None:
    Browser().login()
    listed = browser.get("/api/sessions/").json()["results"]
    assert {session["current"]: session["bound"] for session in listed} == {True: True, False: False}


@pytest.mark.parametrize("path", ["/auth/nowhere", "/api/nowhere/", "/api/schema/", "/auth/login", "/api/docs/"])
def test_every_answer_to_a_proof_has_the_newest_nonce(db: None, path: str) -> None:
    assert APIClient().get(path, HTTP_DPOP="nonsense")["DPoP-Nonce"] == dpop.newest_nonce()


def test_answers_of_middleware_have_it_too(db: None) -> None:
    response = APIClient().post("/auth/login", {}, format="json", CONTENT_LENGTH="9999999", HTTP_DPOP="nonsense")
    assert response.status_code == 413
    assert response["DPoP-Nonce"] == dpop.newest_nonce()


def test_other_origins_may_prove_a_key_and_read_the_nonce(db: None, settings: Settings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    asked = APIClient().options(
        "/api/me/",
        HTTP_ORIGIN="https://app.example",
        HTTP_ACCESS_CONTROL_REQUEST_METHOD="GET",
        HTTP_ACCESS_CONTROL_REQUEST_HEADERS="authorization,dpop",
    )
    assert "dpop" in asked["Access-Control-Allow-Headers"].split(", ")
    answer = APIClient().get("/api/me/", HTTP_ORIGIN="https://app.example")
    exposed = answer["Access-Control-Expose-Headers"].split(", ")
    assert {"DPoP-Nonce", "WWW-Authenticate", "Retry-After"} <= set(exposed)


def test_session_after_a_password_change_keeps_the_key(browser: Browser, prover: Prover) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": "another horse battery"}
    response = browser.post("/auth/password/change", body, browser.access)
    assert (response.status_code, response.json()["tokenType"]) == (200, "DPoP")
    assert claims_of(response.json()["accessToken"])["cnf"] == {"jkt": prover.jkt}
    assert list(Session.objects.order_by("pk").values_list("jkt", flat=True)) == [prover.jkt] * 2
    assert browser.refresh().status_code == 200


def test_renewed_sign_in_keeps_its_key(browser: Browser) -> None:
    assert browser.reauthenticate().json()["tokenType"] == "DPoP"
    assert browser.get("/api/me/").status_code == 200


def test_former_session_of_the_browser_is_replaced_without_its_key(browser: Browser) -> None:
    """The user may have lost that key."""
    former = Session.objects.get()
    browser.http = ProvingClient(Prover())
    browser.http.cookies["refreshToken"] = str(RefreshToken.of(former))
    assert browser.login().status_code == 200
    former.refresh_from_db()
    assert former.revoked_reason == Reason.REPLACED
