"""With DPOP=required, no door issues a token without a key. The doors are found in the URL configuration."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.factors import managing_passkeys, passkeys
from accounts.models import User
from tests.accounts.authenticator import Authenticator
from tests.accounts.devices import challenge, set_up
from tests.clients import PASSWORD, Browser
from tests.provers import Prover
from tokens.domain import sessions
from tokens.models import Reason, Session

SITE = "http://testserver"
PAGE = "a page"


def public_posts(resolver: Any = None, prefix: str = "") -> Iterator[str]:
    """Yield each path of the API that accepts a POST without an access token."""
    for entry in (resolver or get_resolver()).url_patterns:
        path = prefix + str(entry.pattern)
        match entry:
            case URLResolver():
                yield from public_posts(entry, path)
            case URLPattern(callback=callback):
                view: Any = getattr(callback, "cls", None)
                methods = getattr(callback, "actions", None) or dir(view)
                if view and "post" in methods and not view.authentication_classes:
                    yield simplify_regex(path)


def password() -> dict[str, Any]:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    return {"username": "ann", "password": PASSWORD}


def registration() -> dict[str, Any]:
    return {"username": "ben", "password": PASSWORD, "email": "ben@example.com"}


def code() -> dict[str, Any]:
    password()
    browser = Browser()
    browser.login()
    enrolled = set_up(browser)
    Session.objects.all().delete()
    return {"challenge": challenge(), "code": enrolled.codes[0]}


def passkey() -> dict[str, Any]:
    user, device = User.objects.create_user("ann", "", PASSWORD), Authenticator(settings.PASSKEY_ORIGINS[0])
    session = sessions.start(user)
    asked = managing_passkeys.registration_options(session)
    managing_passkeys.register(session, asked["challenge"], device.create(asked["publicKey"]))
    Session.objects.all().delete()
    asked = passkeys.login_options()
    return {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}


def django_session() -> dict[str, Any]:
    """Sign in by Django's own login. In this project, that begins a session for pages."""
    password()
    http = APIClient()
    http.force_login(User.objects.get())
    Session.objects.update(device_name=PAGE)
    return {"cookie": http.cookies["sessionid"].value}


def by_password(request: Any) -> list[str]:
    return ["pwd"]


@pytest.fixture(autouse=True)
def exchange(settings: Settings) -> None:
    settings.TOKENS_SESSION_EXCHANGE = f"{__name__}.by_password"


def begun() -> Any:
    """Return the sessions that have tokens."""
    return Session.objects.exclude(device_name=PAGE)


DOORS: dict[str, Callable[[], dict[str, Any]]] = {
    "/auth/login": password,
    "/auth/login/second-factor": code,
    "/auth/register": registration,
    "/api/token/": password,
    "/api/token/second-factor/": code,
    "/auth/session": django_session,
    "/api/token/session/": django_session,
    "/auth/login/passkey": passkey,
    "/api/token/passkey/": passkey,
}
"""The doors at which a session begins, each with a request that passes."""

NO_DOORS = {
    "/auth/refresh-token",
    "/auth/revoke",
    "/auth/password/reset",
    "/auth/password/reset/check",
    "/auth/password/reset/confirm",
    "/auth/email/verify",
    "/auth/email/verify/check",
    "/api/token/refresh/",
    "/api/token/verify/",
    "/api/token/blacklist/",
    "/auth/login/passkey/options",
    "/api/token/passkey/options/",
}
"""The paths at which no session begins."""


def enter(path: str, body: Any, prover: Prover | None = None) -> Any:
    proof: dict[str, Any] = {"HTTP_DPOP": prover.prove("POST", SITE + path)} if prover else {}
    http = APIClient()
    if "cookie" in body:
        http.cookies["sessionid"] = body["cookie"]
    return http.post(path, body, format="json", **proof)


def test_every_path_is_classified_as_issuing_tokens_or_not() -> None:
    assert sorted(public_posts()) == sorted({*DOORS, *NO_DOORS})


@pytest.mark.parametrize("path", DOORS)
def test_endpoint_issues_no_unbound_token_if_a_key_is_required(db: None, settings: Settings, path: str) -> None:
    body = DOORS[path]()
    settings.TOKENS_DPOP = "required"
    response = enter(path, body)
    assert response.status_code == 401
    assert response.json().keys() == {"detail", "code"}
    assert not response.cookies
    assert not begun().exists()


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("path", DOORS)
def test_endpoint_issues_a_bound_token_with_a_key(db: None, settings: Settings, path: str, mode: str) -> None:
    body, prover = DOORS[path](), Prover()
    if "code" in body:
        first = enter("/auth/login", {"username": "ann", "password": PASSWORD}, prover)
        body["challenge"] = first.json()["challenge"]
    settings.TOKENS_DPOP = mode
    assert enter(path, body, prover).status_code in {200, 201}
    assert begun().get().jkt == prover.jkt


@pytest.mark.parametrize("path", DOORS)
def test_endpoint_issues_an_unbound_token_if_allowed(db: None, path: str) -> None:
    assert enter(path, DOORS[path]()).status_code in {200, 201}
    assert begun().get().jkt == ""


def test_refused_registration_creates_no_account(db: None, settings: Settings) -> None:
    settings.TOKENS_DPOP = "required"
    response = enter("/auth/register", registration())
    assert (response.status_code, response.json()["code"]) == (401, "dpop_proof_required")
    assert not User.objects.exists()


def test_registration_awaiting_verification_needs_no_key(db: None, settings: Settings) -> None:
    settings.TOKENS_DPOP, settings.EMAIL_VERIFICATION_REQUIRED = "required", True
    assert enter("/auth/register", registration()).status_code == 202


def test_pages_with_a_sign_in_of_their_own_issue_no_token_and_need_no_key(admin_user: User, settings: Settings) -> None:
    settings.TOKENS_DPOP = "required"
    admin_user.set_password(PASSWORD)
    admin_user.save()
    http = APIClient()
    for path in ("/admin/login/", "/api/sign-in/"):
        response = http.post(path, {"username": admin_user.username, "password": PASSWORD}, format="multipart")
        assert response.status_code == 302
        assert "refreshToken" not in response.cookies


@pytest.mark.parametrize("page", ["/admin/login/", "/api/sign-in/"])
@pytest.mark.parametrize("path", ["/auth/session", "/api/token/session/"])
def test_page_session_cannot_be_exchanged(admin_user: User, page: str, path: str) -> None:
    admin_user.set_password(PASSWORD)
    admin_user.save()
    http = APIClient()
    http.post(page, {"username": admin_user.username, "password": PASSWORD}, format="multipart")
    response = http.post(path)
    assert (response.status_code, response.json()["code"]) == (401, "session_not_exchangeable")
    assert Session.objects.get().revoked_at is None


def test_exchange_ends_the_page_session(db: None) -> None:
    cookie = django_session()
    assert enter("/auth/session", cookie).status_code == 200
    assert Session.objects.get(device_name=PAGE).revoked_reason == Reason.LOGOUT
    assert enter("/auth/session", cookie).json()["code"] == "not_authenticated"
