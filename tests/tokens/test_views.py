"""Both transports."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from pytest_django import Settings
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.test import APIClient, APIRequestFactory
from time_machine import TimeMachineFixture

from tests.clients import CHALLENGES, PASSWORD, App, Browser, claims_of, header_of
from tests.racing import just_before
from tokens import urls, views
from tokens.domain import sessions
from tokens.models import Reason, Session
from tokens.tokens import RefreshToken

URLS = "tests.urls_tokens"
BEARER = 'Bearer realm="api"'
INVALID = f'{BEARER}, error="invalid_token"'


def assert_refused(response: Any, code: str, challenge: str = INVALID) -> None:
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.json().keys() == {"detail", "code"}
    assert response["WWW-Authenticate"] == challenge
    assert response["Cache-Control"] == "no-store"


def cookie_of(response: Any) -> dict[str, Any]:
    morsel = response.cookies["refreshToken"]
    return {name: value for name, value in morsel.items() if value and name != "expires"}


@pytest.mark.parametrize("pattern", urls.urlpatterns, ids=str)
def test_every_path_works_with_and_without_a_slash(pattern: Any) -> None:
    canonical = reverse(f"latchkey:{pattern.name}", URLS)
    bare = canonical.rstrip("/")
    assert f"/{pattern.pattern}" == canonical
    for path in (bare, f"{bare}/"):
        assert resolve(path, URLS).func is pattern.callback
    for path in (f"{bare}//", f"{bare}/x"):
        with pytest.raises(Resolver404):
            resolve(path, URLS)


# Signing in


def test_login_answers_with_an_access_token_and_the_cookie(ann: Any) -> None:
    browser = Browser()
    response = browser.login()
    assert response.status_code == 200
    assert response.json() == {
        "accessToken": browser.access,
        "tokenType": "Bearer",
        "expiresIn": 900,
        "user": {"id": ann.pk, "username": "ann", "email": "ann@example.com"},
    }
    assert cookie_of(response) == {
        "httponly": True,
        "max-age": 604800,
        "path": "/auth",
        "samesite": "Strict",
        "secure": True,
    }
    assert response["Cache-Control"] == "no-store"
    assert browser.cookie not in response.content.decode()


def test_cookie_name_and_attributes_follow_the_settings(ann: Any, settings: Settings) -> None:
    settings.TOKENS_COOKIE_NAME, settings.TOKENS_COOKIE_SECURE = "rt", False
    response = Browser().login()
    assert response.cookies.keys() == {"rt"}
    assert not response.cookies["rt"]["secure"]


@pytest.mark.parametrize("samesite", ["Lax", "None"])
def test_cookie_for_another_site_is_set_and_cleared_with_the_same_attributes(
    ann: Any, settings: Settings, samesite: str
) -> None:
    settings.TOKENS_COOKIE_SAMESITE = samesite
    extra = {"partitioned": True} if samesite == "None" else {}
    browser = Browser()
    response = browser.login()
    expected = {"httponly": True, "path": "/auth", "samesite": samesite, "secure": True, **extra}
    assert cookie_of(response) == {"max-age": 604800, **expected}
    assert ("; Partitioned" in response.cookies["refreshToken"].OutputString()) == bool(extra)
    assert cookie_of(browser.logout()) == expected


@pytest.mark.parametrize(("username", "password"), [("nobody", PASSWORD), ("ann", "wrong"), ("off", PASSWORD)])
def test_unknown_wrong_and_deactivated_get_the_same_answer(ann: Any, username: str, password: str) -> None:
    manager: Any = get_user_model()._default_manager
    manager.create_user("off", password=PASSWORD, is_active=False)
    browser = Browser()
    response = browser.login(username, password)
    assert_refused(response, "invalid_credentials", BEARER)
    assert response.json()["detail"] == "The username or password is wrong."
    assert not response.cookies
    assert not Session.objects.exists()


def test_user_deactivated_after_the_password_check_gets_the_same_answer(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    with just_before("SAVEPOINT", lambda: get_user_model()._default_manager.update(is_active=False)):
        response = Browser().login()
    assert_refused(response, "invalid_credentials", BEARER)
    assert not response.cookies
    assert not Session.objects.exists()


def test_every_refused_login_has_the_hint(ann: Any, settings: Settings) -> None:
    settings.TOKENS_LOGIN_HINT = "Mind the gap."
    for username, password in (("ann", "wrong"), ("nobody", PASSWORD)):
        browser, app = Browser().login(username, password), App().login(username, password)
        assert browser.json()["detail"] == "The username or password is wrong. Mind the gap."
        assert app.json()["detail"] == "No active account found with the given credentials. Mind the gap."
    assert Browser().login().status_code == 200


def test_password_is_used_as_typed(ann: Any) -> None:
    ann.set_password(f" {PASSWORD} ")
    ann.save()
    assert Browser().login(password=PASSWORD).status_code == 401
    assert Browser().login(password=f" {PASSWORD} ").status_code == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"username", "password"}),
        ({"username": "ann"}, {"password"}),
        ({"username": ["ann"], "password": {}}, {"username", "password"}),
        ({"username": "an\x00n", "password": PASSWORD}, {"username"}),
        ({"username": "ann", "password": "\ud800"}, {"password"}),
        ({"username": "x" * 321, "password": "x" * 4097}, {"username", "password"}),
        (["ann"], {"non_field_errors"}),
    ],
)
@pytest.mark.parametrize("path", ["/auth/login", "/api/token/"])
def test_malformed_credentials_are_field_errors(db: None, path: str, body: Any, fields: set[str]) -> None:
    response = APIClient().post(path, json.dumps(body), content_type="application/json")
    assert response.status_code == 400
    assert response.json().keys() == fields


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        ("{", "application/json", 400, "parse_error"),
        ("[" * 100_000, "application/json", 400, "parse_error"),
        (b"\xff\xfe", "application/json", 400, "parse_error"),
        ('{"username": NaN}', "application/json", 400, "parse_error"),
        ("{}", "application/json; charset=bz2", 400, "parse_error"),
        ("username=ann", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("<a/>", "application/xml", 415, "unsupported_media_type"),
    ],
)
def test_unreadable_body_has_the_usual_error_shape(
    db: None, body: str, content_type: str, status: int, code: str
) -> None:
    response = APIClient().post("/auth/login", body, content_type=content_type)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_body_that_is_too_large_is_refused(db: None, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    response = APIClient().post("/auth/login", {"username": "x" * 200}, format="json")
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_form_with_too_many_fields_is_refused(db: None, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    response = APIClient().post("/api/token/", "a=1&b=2&c=3", content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/api/token/verify/", "*/*", 400),
        ("/api/token/verify/", "text/*, application/json;q=0.1", 400),
        ("/api/token/verify/", "image/png", 406),
        ("/api/token/verify/?format=json", "*/*", 400),
        ("/api/token/verify/?format=xml", "*/*", 404),
    ],
)
def test_answer_has_a_type_that_the_client_takes(db: None, path: str, accept: str, status: int) -> None:
    response = APIClient().post(path, HTTP_ACCEPT=accept)
    assert (response.status_code, response["Content-Type"]) == (status, "application/json")


class TakesNothing(DefaultContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        raise NotAcceptable


def test_projects_own_negotiation_decides(db: None) -> None:
    view = views.TokenVerifyView.as_view(content_negotiation_class=TakesNothing)
    assert view(APIRequestFactory().post("/")).status_code == 406


def test_get_is_not_allowed_for_changes(db: None) -> None:
    response = APIClient().get("/auth/login")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


# Renewing


def test_refresh_answers_with_an_access_token_and_the_cookie(browser: Browser) -> None:
    first = browser.cookie
    response = browser.refresh()
    assert response.status_code == 200
    assert response.json() == {"accessToken": browser.access, "tokenType": "Bearer", "expiresIn": 900}
    assert cookie_of(response)["max-age"] == 604800
    assert browser.cookie != first
    assert response["Cache-Control"] == "no-store"


def test_returned_cookie_lives_as_long_as_its_token(browser: Browser, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    browser.login()
    browser.refresh()
    time_machine.shift(4)
    assert cookie_of(browser.refresh())["max-age"] == 604800 - 4


def test_refresh_without_a_cookie_sets_none(ann: Any) -> None:
    response = Browser().refresh()
    assert_refused(response, "refresh_token_missing", CHALLENGES)
    assert not response.cookies


@pytest.mark.parametrize("cookie", ["junk", "a.b.c", "\u00e9"])
def test_refresh_with_a_bad_cookie_clears_it(ann: Any, cookie: str) -> None:
    response = Browser().refresh(cookie)
    assert_refused(response, "token_not_valid")
    assert response.cookies["refreshToken"].value == ""
    assert cookie_of(response) == {"httponly": True, "path": "/auth", "samesite": "Strict", "secure": True}
    assert response.cookies["refreshToken"]["max-age"] == 0


def test_two_cookies_of_the_name_are_refused_and_nothing_is_revoked(browser: Browser) -> None:
    good = browser.cookie
    response = APIClient().post("/auth/refresh-token", HTTP_COOKIE=f"refreshToken=planted; refreshToken={good}")
    assert_refused(response, "token_not_valid")
    assert response.cookies["refreshToken"].value == ""
    assert browser.refresh(good).status_code == 200


@pytest.mark.parametrize("line", ["theme=dark,refreshToken={}", "refreshToken={},theme=dark", 'refreshToken="{}"'])
def test_two_cookie_headers_are_joined(browser: Browser, line: str) -> None:
    """A server joins them with a comma, as HTTP/1.1 does with any other header."""
    response = APIClient().post("/auth/refresh-token", HTTP_COOKIE=line.format(browser.cookie))
    assert response.status_code == 200


def test_two_cookies_in_two_headers_are_refused_and_nothing_is_revoked(browser: Browser) -> None:
    good = browser.cookie
    response = APIClient().post("/auth/refresh-token", HTTP_COOKIE=f"refreshToken=planted,refreshToken={good}")
    assert_refused(response, "token_not_valid")
    assert browser.refresh(good).status_code == 200


def test_access_token_in_the_cookie_is_refused(browser: Browser) -> None:
    assert_refused(browser.refresh(browser.access), "token_not_valid")


def test_refresh_for_a_deleted_user_is_refused(browser: Browser, ann: Any) -> None:
    ann.delete()
    assert_refused(browser.refresh(), "token_revoked")


def test_refresh_reads_the_user_again(browser: Browser, ann: Any) -> None:
    ann.groups.create(name="editors")
    ann.groups.create(name="authors")
    ann.is_staff = True
    ann.save()
    browser.refresh()
    claims = claims_of(browser.access)
    assert (claims["is_staff"], claims["groups"]) == (True, ["authors", "editors"])


# Signing out


def test_logout_ends_the_session_and_clears_the_cookie(browser: Browser) -> None:
    refresh, access = browser.cookie, browser.access
    response = browser.logout()
    assert response.status_code == 204
    assert response.cookies["refreshToken"].value == ""
    assert Session.objects.get().revoked_reason == Reason.LOGOUT
    assert_refused(browser.refresh(refresh), "token_revoked")
    assert_refused(browser.post("/auth/logout-all", access=access), "token_revoked")


def test_logout_accepts_a_superseded_refresh_token(browser: Browser) -> None:
    old = browser.cookie
    browser.refresh()
    browser.cookie = old
    assert browser.logout().status_code == 204


def test_logout_needs_the_access_token(browser: Browser) -> None:
    browser.access = ""
    assert_refused(browser.logout(), "not_authenticated", CHALLENGES)
    assert browser.refresh().status_code == 200


def test_logout_needs_the_cookie(browser: Browser) -> None:
    cookie = browser.cookie
    del browser.http.cookies["refreshToken"]
    assert_refused(browser.logout(), "refresh_token_missing", CHALLENGES)
    assert browser.refresh(cookie).status_code == 200


def test_logout_needs_a_cookie_of_the_same_session(browser: Browser) -> None:
    mine, other = browser.cookie, Browser()
    other.login()
    browser.cookie = other.cookie
    assert_refused(browser.logout(), "token_not_valid")
    assert Session.objects.live().count() == 2
    assert browser.refresh(mine).status_code == other.refresh().status_code == 200


def test_logout_refuses_a_genuine_cookie_of_another_user(browser: Browser) -> None:
    session = Session.objects.get()
    claims = RefreshToken.claims(browser.cookie)
    assert sessions.belongs(claims, session)
    assert not sessions.belongs({**claims, "sub": f"{claims['sub']}0"}, session)


def test_logout_needs_an_unexpired_cookie(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(seconds=-1)}
    browser = Browser()
    browser.login()
    assert_refused(browser.logout(), "token_expired")
    assert not Session.objects.exclude(revoked_at=None).exists()


def test_logout_all_ends_every_session_of_the_user_only(browser: Browser, app: App) -> None:
    manager: Any = get_user_model()._default_manager
    manager.create_user("bob", password=PASSWORD)
    bob = Browser()
    bob.login("bob")
    response = browser.post("/auth/logout-all", access=browser.access)
    assert response.status_code == 204
    assert response.cookies["refreshToken"].value == ""
    assert_refused(app.refresh(), "token_revoked")
    assert bob.refresh().status_code == 200


# Other sites

OTHER = "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"origin": "http://testserver"}, 401),
        ({"origin": "http://testserver", "sec-fetch-site": "same-origin"}, 401),
        ({"sec-fetch-site": "same-origin"}, 401),
        ({"sec-fetch-site": "none"}, 401),
        ({"origin": "https://app.example", "sec-fetch-site": "cross-site"}, 401),
        ({"origin": "https://testserver"}, 403),
        ({"origin": "http://testserver:8000"}, 403),
        ({"origin": OTHER}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": OTHER, "sec-fetch-site": "same-origin"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_this_host_and_trusted_origins_may_change_anything(
    db: None, settings: Settings, headers: dict[str, str], status: int
) -> None:
    settings.ALLOWED_HOSTS, settings.TOKENS_TRUSTED_ORIGINS = ["testserver"], ["https://app.example"]
    body = {"username": "a", "password": "b"}
    asked: list[dict[str, Any]] = [
        {"data": body, "format": "json"},
        {"data": urlencode(body), "content_type": "application/x-www-form-urlencoded"},
        {"data": body, "format": "multipart"},
        {"data": "username=a", "content_type": "text/plain"},
    ]
    for number, request in enumerate(asked):
        response = APIClient(headers=headers).post("/auth/login", **request)
        # From a trusted site, the body is read; it has to be JSON.
        assert response.status_code == (status if status == 403 or number == 0 else 415)
        if status == 403:
            assert response.json()["code"] == "cross_site_request"


def test_cross_site_request_does_no_work(browser: Browser) -> None:
    cookie = browser.cookie
    response = browser.refresh(HTTP_ORIGIN=OTHER)
    assert (response.status_code, response.json()["code"]) == (403, "cross_site_request")
    assert not response.cookies
    assert Session.objects.get().generation == 0
    assert browser.cookie == cookie


# SimpleJWT's requests and responses


def test_obtain_answers_with_a_pair(ann: Any) -> None:
    response = APIClient().post("/api/token/", {"username": "ann", "password": PASSWORD})
    assert response.status_code == 200
    assert response.json().keys() == {"access", "refresh"}
    assert header_of(response.json()["access"])["typ"] == "at+jwt"
    assert header_of(response.json()["refresh"]) == {"alg": "HS256", "typ": "rt+jwt"}
    assert response["Cache-Control"] == "no-store"


def test_obtain_with_wrong_credentials_is_refused(ann: Any) -> None:
    assert_refused(App().login(password="wrong"), "no_active_account", BEARER)


@pytest.mark.parametrize("content_type", ["json", "multipart"])
def test_refresh_accepts_json_and_forms(app: App, content_type: str) -> None:
    response = app.http.post("/api/token/refresh/", {"refresh": app.refresh_token}, format=content_type)
    assert response.status_code == 200
    assert response.json().keys() == {"access", "refresh"}


def test_refresh_token_works_in_either_transport(app: App) -> None:
    browser = Browser()
    assert browser.refresh(app.refresh_token).status_code == 200
    assert app.refresh(browser.cookie).json()["refresh"] == browser.cookie


def test_verify_accepts_either_kind_while_it_is_acceptable(app: App, time_machine: TimeMachineFixture) -> None:
    first = app.refresh_token
    assert app.verify(first).status_code == app.verify(app.access).status_code == 200
    app.refresh()
    app.refresh()
    assert app.verify(first).json() == app.verify(app.refresh_token).json() == {}
    time_machine.move_to(timezone.now() + timedelta(seconds=11))
    assert_refused(app.verify(first), "token_not_valid")
    assert app.verify(app.refresh_token).json() == {}
    app.blacklist(app.refresh_token)
    assert_refused(app.verify(app.access), "token_revoked")


def test_blacklist_accepts_a_superseded_token(app: App) -> None:
    first = app.refresh_token
    app.refresh()
    response = app.blacklist(first)
    assert (response.status_code, response.json()) == (200, {})
    assert_refused(app.refresh(), "token_revoked")


@pytest.mark.parametrize(("path", "field"), [("refresh", "refresh"), ("verify", "token"), ("blacklist", "refresh")])
def test_body_without_the_token_is_a_field_error(db: None, path: str, field: str) -> None:
    response = APIClient().post(f"/api/token/{path}/", {}, format="json")
    assert (response.status_code, response.json().keys()) == (400, {field})


# What ends a session


def test_deactivation_ends_sessions_for_good(browser: Browser, ann: Any) -> None:
    ann.is_active = False
    ann.save()
    assert_refused(browser.post("/auth/logout-all", access=browser.access), "token_revoked")
    ann.is_active = True
    ann.save(update_fields=["is_active"])
    assert_refused(browser.refresh(), "token_revoked")


def test_deactivation_without_a_signal_works_on_the_next_request(browser: Browser, ann: Any) -> None:
    type(ann)._default_manager.filter(pk=ann.pk).update(is_active=False)
    assert browser.refresh().json()["code"] == "token_revoked"


def test_password_change_by_any_route_ends_sessions(browser: Browser, ann: Any) -> None:
    ann.set_password("another password entirely")
    type(ann).objects.filter(pk=ann.pk).update(password=ann.password)
    assert_refused(browser.post("/auth/logout-all", access=browser.access), "token_revoked")
    assert_refused(browser.refresh(), "token_revoked")


@pytest.mark.parametrize("cap", [1, 3])
def test_cap_ends_the_least_recently_used_session(
    ann: Any, settings: Settings, time_machine: TimeMachineFixture, cap: int
) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = cap
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    browsers = [Browser() for _ in range(cap + 1)]
    for browser in browsers[:-1]:
        browser.login()
        time_machine.shift(60)
    browsers[0].refresh()
    browsers[-1].login()
    oldest = browsers[1 % cap]
    assert_refused(oldest.refresh(), "token_revoked")
    assert all(browser.refresh().status_code == 200 for browser in browsers if browser is not oldest)
    assert Session.objects.filter(revoked_reason=Reason.CAP).count() == 1


def test_login_prunes_expired_sessions_of_its_user(browser: Browser, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(timezone.now() + timedelta(days=8))
    browser.login()
    assert Session.objects.count() == 1
