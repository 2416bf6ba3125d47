"""From a name and a password to a session."""

import logging
from typing import Any

import pytest
from django.contrib.auth.models import AbstractBaseUser
from django.test import RequestFactory
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.clients import PASSWORD, App, Browser, claims_of
from tokens.domain import limits, signing_in
from tokens.domain.client import Client
from tokens.domain.signing_in import IDENTIFIER_LENGTH, PASSWORD_LENGTH
from tokens.exceptions import InvalidCredentials
from tokens.kinds import LOGIN_FAILED, TOKEN_REUSED
from tokens.models import Reason, SecurityEvent, Session

LOGINS = ["/auth/login", "/api/token/"]


def log_in(path: str, **body: Any) -> Any:
    return APIClient().post(path, {"username": "ann", "password": PASSWORD, **body}, format="json")


@pytest.mark.parametrize("path", LOGINS)
@pytest.mark.parametrize("typed", [" ann", "ann ", "\tann\u00a0\n"])
def test_spaces_around_the_name_are_ignored(ann: Any, path: str, typed: str) -> None:
    assert log_in(path, username=typed).status_code == 200


def test_spaces_around_the_name_give_no_extra_tries(ann: Any, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (2, 60.0)}
    names = ("ann", " ann", "ann ")
    assert [log_in("/auth/login", username=name, password="wrong").status_code for name in names] == [401, 401, 429]


@pytest.mark.parametrize("path", LOGINS)
@pytest.mark.parametrize(("field", "limit"), [("username", IDENTIFIER_LENGTH), ("password", PASSWORD_LENGTH)])
def test_length_is_checked_before_a_try_is_spent(
    ann: Any, settings: Settings, path: str, field: str, limit: int
) -> None:
    settings.TOKENS_LIMITS = {"login": (1, 60.0)}
    response = log_in(path, **{field: "a" * limit + "b"})
    assert (response.status_code, response.json().keys()) == (400, {field})
    assert log_in(path, **{field: "a" * limit}).status_code == 401


@pytest.mark.parametrize(
    ("name", "password"), [("a" + "\u0301" * 100_000, PASSWORD), ("ann", "a" + "\u0301" * 100_000)]
)
def test_too_long_text_is_neither_normalised_nor_hashed(
    ann: Any, monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    def spend(*bucket: str) -> None:
        raise AssertionError(bucket)

    monkeypatch.setattr(limits, "spend", spend)
    with pytest.raises(InvalidCredentials):
        signing_in.sign_in(name, password)


def test_too_long_current_password_is_just_wrong(ann: Any) -> None:
    assert not signing_in.check_password(ann, "a" + "\u0301" * 100_000)
    assert signing_in.check_password(ann, PASSWORD)


def test_password_is_confirmed_in_another_unicode_form(ann: Any) -> None:
    ann.set_password("caf\u00e9 au lait")
    assert signing_in.check_password(ann, "cafe\u0301 au lait")
    assert not signing_in.check_password(ann, "cafe au lait")


# The name of the device


@pytest.mark.parametrize("path", LOGINS)
@pytest.mark.parametrize("name", ["x", "Ann's phone", "\N{SNOWMAN}" * 64, "  padded  "])
def test_session_has_the_name_sent_by_the_client(ann: Any, path: str, name: str) -> None:
    assert log_in(path, deviceName=name).status_code == 200
    assert Session.objects.get().device_name == name.strip()


@pytest.mark.parametrize("path", LOGINS)
@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "a\u202eb", "a\u200bb", None, [], {}])
def test_invalid_device_name_is_a_field_error(ann: Any, path: str, name: Any) -> None:
    response = log_in(path, deviceName=name)
    assert (response.status_code, response.json().keys()) == (400, {"deviceName"})
    assert not Session.objects.exists()


# The browser's earlier session


def test_login_in_the_same_browser_replaces_the_session(ann: Any, browser: Browser) -> None:
    former = claims_of(browser.access)["sid"]
    assert browser.login().status_code == 200
    assert Session.objects.get(pk=former).revoked_reason == Reason.REPLACED
    assert Session.objects.filter(revoked_at=None).count() == 1
    assert browser.refresh().status_code == 200


def test_cookie_of_an_earlier_generation_identifies_the_session(ann: Any, browser: Browser) -> None:
    first = browser.cookie
    assert browser.refresh().status_code == 200
    browser.cookie = first
    assert browser.login().status_code == 200
    assert Session.objects.filter(revoked_at=None).count() == 1
    assert not SecurityEvent.objects.filter(kind=TOKEN_REUSED).exists()


def test_replaced_session_frees_its_place(ann: Any, browser: Browser, settings: Settings) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 2
    elsewhere = Browser()
    elsewhere.login()
    browser.login()
    assert elsewhere.refresh().status_code == 200
    assert set(Session.objects.values_list("revoked_reason", flat=True)) == {"", Reason.REPLACED}


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c"])
def test_malformed_cookie_replaces_nothing(ann: Any, browser: Browser, cookie: str) -> None:
    other = Browser()
    other.cookie = cookie
    assert other.login().status_code == 200
    assert not Session.objects.exclude(revoked_at=None).exists()


def test_two_cookies_replace_nothing(ann: Any, browser: Browser) -> None:
    token = browser.cookie
    response = Browser().login(HTTP_COOKIE=f"refreshToken={token}; refreshToken={token}")
    assert response.status_code == 200
    assert not Session.objects.exclude(revoked_at=None).exists()


def test_ended_session_keeps_its_reason(ann: Any, browser: Browser) -> None:
    token = browser.cookie
    browser.logout()
    browser.cookie = token
    assert browser.login().status_code == 200
    assert set(Session.objects.values_list("revoked_reason", flat=True)) == {"", Reason.LOGOUT}


def test_refused_login_replaces_nothing(ann: Any, browser: Browser) -> None:
    assert browser.login(password="wrong").status_code == 401
    assert browser.refresh().status_code == 200


def test_body_transport_replaces_nothing(ann: Any, browser: Browser) -> None:
    browser.http.post("/api/token/", {"username": "ann", "password": PASSWORD}, format="json")
    assert Session.objects.filter(revoked_at=None).count() == 2


# Unreadable hashes

MALFORMED = [
    "bcrypt_sha256$$2b$12$x",
    "pbkdf2_sha256$x$y$z",
    "pbkdf2_sha256$",
    "argon2$x",
    "md5$",
    "x",
    "",
    "$",
    "scrypt$1$2",
]


@pytest.fixture
def with_bcrypt(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = [
        *settings.PASSWORD_HASHERS,
        *(
            f"django.contrib.auth.hashers.{name}PasswordHasher"
            for name in ("PBKDF2", "Argon2", "BCryptSHA256", "Scrypt")
        ),
    ]


@pytest.mark.parametrize("encoded", MALFORMED)
def test_unreadable_hash_is_a_refused_login(
    ann: Any, with_bcrypt: None, encoded: str, caplog: pytest.LogCaptureFixture
) -> None:
    type(ann)._default_manager.update(password=encoded)
    with caplog.at_level(logging.ERROR, "tokens.domain.signing_in"):
        answers = [log_in(path) for path in LOGINS]
    assert [answer.json()["code"] for answer in answers] == ["invalid_credentials", "no_active_account"]
    assert SecurityEvent.objects.get(kind=LOGIN_FAILED).count == 2
    assert encoded not in caplog.text or len(encoded) < 2


@pytest.mark.parametrize("encoded", MALFORMED)
def test_unreadable_hash_confirms_nothing(ann: AbstractBaseUser, with_bcrypt: None, encoded: str) -> None:
    ann.password = encoded
    assert not signing_in.check_password(ann, PASSWORD)


# The arguments of the domain


def test_backends_get_the_request_and_the_session_gets_the_client(ann: Any, rf: RequestFactory) -> None:
    client = Client("192.0.2.1", "a program")
    session = signing_in.sign_in("ann", PASSWORD, client, request=rf.post("/"))
    assert (session.user, session.ip_address, session.user_agent) == (ann, "192.0.2.1", "a program")


def test_app_gets_no_cookie(ann: Any) -> None:
    app = App()
    assert not app.login().cookies
