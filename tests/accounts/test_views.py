"""Accounts over HTTP. Links are taken out of the delivered mails."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.hashers import check_password
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.db.models import ProtectedError, RestrictedError
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import Mail, MailKind, User
from tests.accounts.mails import link_in
from tests.clients import CHALLENGES, PASSWORD, App, Browser, claims_of
from tests.racing import just_before
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another horse battery"
LINK_REFUSED = {"token": ["The link is not valid or was used before. Ask for a new one."]}


def kinds() -> list[str]:
    return list(SecurityEvent.objects.order_by("created_at", "id").values_list("kind", flat=True))


# Registration


def register(browser: Browser, **body: Any) -> Any:
    return browser.post("/auth/register", {"username": "ann", "password": PASSWORD, **body})


def test_registration_signs_in(db: None) -> None:
    browser = Browser()
    response = register(browser, email="Ann@Example.com")
    user = User.objects.get()
    assert response.status_code == 201
    assert response.json() == {
        "accessToken": response.data["accessToken"],
        "tokenType": "Bearer",
        "expiresIn": 900,
        "user": {"id": user.pk, "username": "ann", "email": "Ann@example.com"},
    }
    assert response["Cache-Control"] == "no-store"
    assert response.cookies["refreshToken"]["httponly"]
    assert (user.email_verified, user.is_staff, user.is_superuser) == (False, False, False)
    assert user.check_password(PASSWORD)
    session = Session.objects.get()
    assert session.user_agent == browser.http.defaults.get("HTTP_USER_AGENT", session.user_agent)
    assert set(kinds()) == {"registered", "login"}
    assert browser.refresh().status_code == 200


@pytest.mark.parametrize(("body", "expected"), [({}, True), ({"remember": True}, True), ({"remember": False}, False)])
def test_registration_is_remembered_by_default(body: dict[str, Any], expected: bool) -> None:
    browser = Browser()
    for response in (register(browser, **body), browser.refresh()):
        cookie = response.cookies["refreshToken"]
        assert (cookie["max-age"], bool(cookie["expires"])) == ((604800, True) if expected else ("", False))
    session = Session.objects.get()
    assert session.remembered is expected
    lasts = timedelta(days=7) if expected else timedelta(hours=12)
    assert session.expires_at - session.created_at == pytest.approx(lasts, abs=timedelta(seconds=2))


@pytest.mark.parametrize("body", [{}, {"email": None}, {"email": ""}, {"email": "  "}])
def test_address_can_be_left_out(body: dict[str, Any]) -> None:
    assert register(Browser(), **body).json()["user"]["email"] == ""
    assert User.objects.get().email_key is None
    assert not Mail.objects.exists()


def test_registration_mails_a_link_that_verifies_the_address(mailoutbox: list[EmailMessage]) -> None:
    browser = Browser()
    register(browser, email="ann@example.com")
    assert mailoutbox == []
    outbox.deliver()
    (mail,) = mailoutbox
    assert mail.to == ["ann@example.com"]
    response = browser.post("/auth/email/verify", link_in(mail))
    assert (response.status_code, response.content) == (204, b"")
    assert User.objects.get().email_verified
    assert SecurityEvent.objects.filter(kind="email_verified").count() == 1


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"username": "ANN"}, {"username": ["This username is taken."]}),
        ({"username": "\N{FULLWIDTH LATIN SMALL LETTER A}nn"}, {"username": ["This username is taken."]}),
        ({"email": "ANN@example.COM"}, {"email": ["This address is taken."]}),
        (
            {"username": "ann", "email": "ann@example.com", "password": "12345678"},
            {
                "username": ["This username is taken."],
                "email": ["This address is taken."],
                "password": ["This password is too common.", "This password is entirely numeric."],
            },
        ),
        ({"username": "a@b"}, {"username": ["Enter a valid username: letters, digits and . + - _ only."]}),
        ({"username": "b ob"}, {"username": ["Enter a valid username: letters, digits and . + - _ only."]}),
        ({"username": "x" * 151}, {"username": ["Ensure this value has at most 150 characters (it has 151)."]}),
        ({"email": "nonsense"}, {"email": ["Enter a valid email address."]}),
        ({"password": "short"}, {"password": ["This password is too short. It must contain at least 8 characters."]}),
        ({"password": "bob.the.builder"}, {"password": ["The password is too similar to the username."]}),
        ({"password": ""}, {"password": ["This field may not be blank."]}),
        (
            {"username": "a@b", "email": "nonsense", "password": "short"},
            {
                "username": ["Enter a valid username: letters, digits and . + - _ only."],
                "email": ["Enter a valid email address."],
                "password": ["This password is too short. It must contain at least 8 characters."],
            },
        ),
        ({"remember": None}, {"remember": ["This field may not be null."]}),
        ({"remember": "false"}, {"remember": ["Must be a valid boolean."]}),
        ({"remember": 0}, {"remember": ["Must be a valid boolean."]}),
    ],
)
def test_invalid_registration_is_a_field_error(ann: User, body: dict[str, Any], errors: dict[str, list[str]]) -> None:
    response = register(Browser(), **{"username": "bob.the.builder", **body})
    assert (response.status_code, response.json()) == (400, errors)
    assert not response.cookies
    assert User.objects.get() == ann
    assert not any(rows.objects.exists() for rows in (Session, SecurityEvent, Mail))


@pytest.mark.parametrize("password", [" a b c d ", "🔑🔑🔑🔑🔑🔑🔑🔑", "x" * 4096])
def test_password_may_be_long_and_contain_any_character(password: str) -> None:
    assert register(Browser(), password=password).status_code == 201
    assert Browser().login(password=password).status_code == 200


def test_links_are_limited_across_deleted_accounts(settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"mail": (2, 600.0)}
    browser = Browser()
    for email in ("bob@example.com", "BOB@example.com", "bob@example.com"):
        access = register(browser, email=email).json()["accessToken"]
        assert browser.post("/auth/account/delete", {"currentPassword": PASSWORD}, access).status_code == 204
    assert Mail.objects.count() == 2


def test_user_past_the_link_limit_signs_in_and_asks_again(settings: Settings, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    browser = Browser()
    gone = register(browser, email="bob@example.com").json()["accessToken"]
    assert browser.post("/auth/account/delete", {"currentPassword": PASSWORD}, gone).status_code == 204
    access = register(browser, email="bob@example.com").json()["accessToken"]
    assert browser.post("/auth/email/resend", access=access).status_code == 429
    time_machine.shift(600)
    assert browser.post("/auth/email/resend", access=access).status_code == 202
    assert list(Mail.objects.values_list("kind", flat=True)) == ["verify_email"] * 2


def test_closed_registration_refuses_everyone(settings: Settings) -> None:
    settings.REGISTRATION_OPEN = False
    response = register(Browser())
    assert (response.status_code, response.json()["code"]) == (403, "registration_closed")
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "register",
        "reauthenticate",
        "password/change",
        "password/reset",
        "password/reset/check",
        "password/reset/confirm",
        "email/verify",
        "email/verify/check",
        "email/resend",
    ],
)
def test_other_sites_are_refused(path: str, browser: Browser) -> None:
    response = browser.post(f"/auth/{path}", {}, browser.access, HTTP_ORIGIN="https://evil.example")
    assert (response.status_code, response.json()["code"]) == (403, "cross_site_request")


# Change of password


def change_password(browser: Browser, current: Any = PASSWORD, new: Any = NEW_PASSWORD) -> Any:
    return browser.change_password(current, new)


def out(browser: Browser) -> list[str]:
    """Return the codes with which the browser's tokens are refused."""
    answers = (browser.post("/auth/email/resend", access=browser.access), browser.refresh())
    return [answer.json()["code"] for answer in answers]


def test_password_change_ends_every_session_and_starts_a_new_one(ann: User, browser: Browser) -> None:
    elsewhere, thief = Browser(), Browser()
    elsewhere.login()
    browser.refresh()
    thief.access, thief.cookie = browser.access, browser.cookie
    response = change_password(browser)
    assert response.status_code == 200
    assert response.json() == {"accessToken": browser.access, "tokenType": "Bearer", "expiresIn": 900}
    assert response["Cache-Control"] == "no-store"
    was, other, successor = Session.objects.order_by("created_at")
    for ended in (was, other):
        assert (ended.revoked_reason, ended.revoked_by) == (Reason.PASSWORD, "ann")
    assert claims_of(browser.access)["sid"] == claims_of(browser.cookie)["sid"] == str(successor.pk)
    assert out(elsewhere) == out(thief) == ["token_revoked", "token_revoked"]
    assert browser.post("/auth/email/resend", access=browser.access).status_code == 202
    assert browser.refresh().status_code == 200
    assert Browser().login().status_code == 401
    assert Browser().login(password=NEW_PASSWORD).status_code == 200


def test_password_change_logs_one_line_and_no_sign_in(ann: User, browser: Browser) -> None:
    was = Session.objects.get()
    Browser().login()
    SecurityEvent.objects.all().delete()
    change_password(browser)
    events = SecurityEvent.objects.order_by("kind").values_list("kind", "reason")
    assert list(events) == [("password_changed", ""), ("session_revoked", "password")]
    assert SecurityEvent.objects.get(kind="password_changed").session == was.pk


@pytest.mark.parametrize("remember", [True, False])
def test_session_after_a_password_change_keeps_its_properties(
    ann: User, time_machine: TimeMachineFixture, remember: bool
) -> None:
    time_machine.move_to("2030-01-01T12:00:00Z", tick=False)
    browser = Browser()
    body = {"username": "ann", "password": PASSWORD, "remember": remember, "deviceName": "desk"}
    browser.access = browser.post("/auth/login", body).json()["accessToken"]
    Session.objects.update(amr="pwd otp", claims='{"tenant": "one"}')
    time_machine.shift(300)
    browser.refresh()
    was, before = Session.objects.get(), claims_of(browser.access)
    time_machine.shift(300)
    response = change_password(browser)
    successor = Session.objects.get(revoked_at=None)
    kept = {
        field.name
        for field in Session._meta.fields
        if getattr(was, field.name) == getattr(successor, field.name) and field.name not in {"user", "exposed"}
    }
    assert {"remembered", "amr", "device_name", "claims", "jkt", "ip_address", "user_agent"} <= kept
    assert not kept & {"id", "secret", "generation", "created_at", "rotated_at", "expires_at", "auth_hash"}
    after = claims_of(browser.access)
    same = {"auth_time", "amr", "sub", "username", "tenant"}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert bool(response.cookies["refreshToken"]["max-age"]) is remember


def test_password_change_answers_by_the_same_transport(ann: User) -> None:
    app = App()
    app.login()
    body = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    old = app.refresh_token
    app.refresh()
    headers: Any = {"HTTP_AUTHORIZATION": f"Bearer {app.access}"}
    response: Any = app.http.post("/auth/password/change", {**body, "refresh": old}, format="json", **headers)
    assert (response.status_code, response.json().keys()) == (
        200,
        {"accessToken", "tokenType", "expiresIn", "refresh"},
    )
    assert "refreshToken" not in response.cookies
    assert app.refresh(response.json()["refresh"]).status_code == 200


def test_password_change_without_a_refresh_token_returns_only_an_access_token(browser: Browser) -> None:
    del browser.http.cookies["refreshToken"]
    response = browser.change_password(refresh=None)
    assert (response.status_code, response.json().keys()) == (200, {"accessToken", "tokenType", "expiresIn"})
    assert not response.cookies
    assert browser.post("/auth/email/resend", access=browser.access).status_code == 202


def foreign_tokens(browser: Browser) -> dict[str, str]:
    """Return texts that are not refresh tokens of the browser's session."""
    other = Browser()
    other.login()
    return {
        "another session's": other.cookie,
        "an access token": browser.access,
        "nonsense": "nonsense",
        "forged": f"{browser.cookie[:-4]}AAAA",
    }


@pytest.mark.parametrize("where", ["cookie", "body"])
@pytest.mark.parametrize("what", ["another session's", "an access token", "nonsense", "forged"])
def test_password_change_with_a_foreign_refresh_token_changes_nothing(
    ann: User, browser: Browser, where: str, what: str
) -> None:
    browser.refresh()
    token, mine = foreign_tokens(browser)[what], browser.cookie
    before = list(Session.objects.order_by("pk").values())
    if where == "cookie":
        browser.cookie = token
        response = browser.change_password()
    else:
        response = browser.change_password(refresh=token)
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert not response.cookies
    assert list(Session.objects.order_by("pk").values()) == before
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)
    assert browser.refresh(mine).status_code == 200


def test_password_change_after_a_logout_changes_nothing(ann: User, browser: Browser) -> None:
    with just_before("SAVEPOINT", lambda: sessions.revoke(Session.objects.get(), Reason.LOGOUT)):
        response = change_password(browser)
    assert (response.status_code, response.json()["code"]) == (401, "token_revoked")
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)
    assert Session.objects.get().revoked_reason == Reason.LOGOUT


@pytest.mark.parametrize(
    ("current", "new", "errors"),
    [
        ("wrong", NEW_PASSWORD, {"currentPassword": ["That password is wrong."]}),
        (PASSWORD, "password", {"newPassword": ["This password is too common."]}),
        (PASSWORD, "ann@example.com", {"newPassword": ["The password is too similar to the email address."]}),
        ("", "", {name: ["This field may not be blank."] for name in ("currentPassword", "newPassword")}),
    ],
)
def test_invalid_password_change_is_a_field_error(
    ann: User, browser: Browser, current: str, new: str, errors: dict[str, list[str]]
) -> None:
    elsewhere = Browser()
    elsewhere.login()
    response = change_password(browser, current, new)
    assert (response.status_code, response.json()) == (400, errors)
    assert Browser().login().status_code == 200
    assert elsewhere.refresh().status_code == browser.refresh().status_code == 200


def test_wrong_current_password_is_logged_as_a_failed_login(ann: User, browser: Browser) -> None:
    change_password(browser, "wrong")
    change_password(browser, "wrong")
    assert SecurityEvent.objects.get(kind="login_failed").count == 2


@pytest.mark.parametrize("path", ["password/change", "email/resend"])
def test_access_token_is_needed(ann: User, path: str) -> None:
    response = Browser().post(f"/auth/{path}", {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD})
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == CHALLENGES
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


# Reset of a forgotten password


def ask_for_reset(email: Any = "ann@example.com") -> Any:
    return Browser().post("/auth/password/reset", {"email": email})


def reset(link: dict[str, Any], new: Any = NEW_PASSWORD) -> Any:
    return Browser().post("/auth/password/reset/confirm", {**link, "newPassword": new})


@pytest.fixture
def link(ann: User, mailoutbox: list[EmailMessage]) -> dict[str, Any]:
    """The link of a mail that ann asked for."""
    ask_for_reset()
    outbox.deliver()
    return link_in(mailoutbox.pop())


def test_reset_sets_a_new_password_and_ends_every_session(ann: User, browser: Browser, link: dict[str, Any]) -> None:
    response = reset(link)
    assert (response.status_code, response.content) == (204, b"")
    assert Session.objects.get().revoked_reason == Reason.PASSWORD
    assert browser.refresh().json()["code"] == "token_revoked"
    assert Browser().login().status_code == 401
    assert Browser().login(password=NEW_PASSWORD).status_code == 200
    assert SecurityEvent.objects.filter(kind="password_reset").count() == 1


@pytest.mark.parametrize("already", [False, True])
def test_reset_proves_the_address(ann: User, mailoutbox: list[EmailMessage], already: bool) -> None:
    User.objects.update(email_verified=already)
    ask_for_reset()
    outbox.deliver()
    reset(link_in(mailoutbox[0]))
    assert User.objects.get().email_verified
    assert SecurityEvent.objects.filter(kind="email_verified").exists() is not already


def test_reset_works_once(link: dict[str, Any]) -> None:
    reset(link)
    response = reset(link, "yet another horse")
    assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert Browser().login(password=NEW_PASSWORD).status_code == 200


def test_reset_that_was_refused_can_be_repeated(link: dict[str, Any]) -> None:
    response = reset(link, "password")
    assert (response.status_code, response.json()) == (400, {"newPassword": ["This password is too common."]})
    assert Browser().login().status_code == 200
    assert reset(link).status_code == 204


@pytest.mark.parametrize(("late", "status"), [(0, 204), (1, 400)])
def test_reset_link_expires(
    ann: User, time_machine: TimeMachineFixture, mailoutbox: list[EmailMessage], late: int, status: int
) -> None:
    time_machine.move_to(timezone.now(), tick=False)
    ask_for_reset()
    outbox.deliver()
    link = link_in(mailoutbox.pop())
    time_machine.shift(django_settings.PASSWORD_RESET_TIMEOUT + late)
    assert reset(link).status_code == status
    ann.refresh_from_db()
    assert check_password(PASSWORD, ann.password) is (status == 400)


@pytest.mark.parametrize(
    "change",
    [{"email": "bob@example.com"}, {"is_active": False}, {"password": ""}],
    ids=lambda change: next(iter(change)),
)
def test_reset_link_is_void_once_the_account_changes(ann: User, link: dict[str, Any], change: dict[str, Any]) -> None:
    User.objects.update(**change)
    response = reset(link)
    assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert not SecurityEvent.objects.exists()


def test_reset_link_of_another_user_is_refused(ann: User, link: dict[str, Any]) -> None:
    User.objects.create_user("bob", "bob@example.com", PASSWORD)
    ask_for_reset("bob@example.com")
    outbox.deliver()
    assert reset({**link, "uid": "OTk5"}).json() == LINK_REFUSED


def test_reset_and_verification_links_are_not_interchangeable(
    ann: User, browser: Browser, link: dict[str, Any]
) -> None:
    assert browser.post("/auth/email/verify", link).json() == LINK_REFUSED
    assert not User.objects.get().email_verified


def test_known_and_unknown_addresses_take_the_same_work(ann: User, mailoutbox: list[EmailMessage]) -> None:
    answers, statements = [], []
    for email in ("ann@example.com", "nobody@example.com"):
        with CaptureQueriesContext(connection) as sent:
            response = ask_for_reset(email)
        answers.append((response.status_code, response.content, dict(response.headers)))
        statements.append([query["sql"].split(" (")[0] for query in sent.captured_queries])
    assert answers == [(202, b"", answers[0][2])] * 2
    assert statements[0] == statements[1]
    assert statements[0][-1] == 'INSERT INTO "accounts_mail"'
    assert not any("accounts_user" in statement for statement in statements[0])
    outbox.deliver()
    assert [mail.to for mail in mailoutbox] == [["ann@example.com"]]
    assert not Mail.objects.exists()


def test_reset_mail_goes_to_the_stored_address(ann: User, mailoutbox: list[EmailMessage]) -> None:
    ask_for_reset("ANN@Example.com")
    outbox.deliver()
    assert [mail.to for mail in mailoutbox] == [["ann@example.com"]]


@pytest.mark.parametrize("email", ["nonsense", "a@b@c", "ann", f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.example"])
def test_malformed_address_is_refused(email: str) -> None:
    response = ask_for_reset(email)
    assert (response.status_code, response.json().keys()) == (400, {"email"})
    assert not Mail.objects.exists()


# Verification of the address


def test_verification_works_once(ann: User, browser: Browser, mailoutbox: list[EmailMessage]) -> None:
    browser.post("/auth/email/resend", access=browser.access)
    outbox.deliver()
    link = link_in(mailoutbox[0])
    assert Browser().post("/auth/email/verify", link).status_code == 204
    response = Browser().post("/auth/email/verify", link)
    assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert SecurityEvent.objects.filter(kind="email_verified").count() == 1


def test_verification_link_is_for_the_address_it_was_sent_to(
    ann: User, browser: Browser, mailoutbox: list[EmailMessage]
) -> None:
    browser.post("/auth/email/resend", access=browser.access)
    outbox.deliver()
    ann.email = "bob@example.com"
    ann.save()
    assert Browser().post("/auth/email/verify", link_in(mailoutbox[0])).json() == LINK_REFUSED
    assert not User.objects.get().email_verified


def test_verification_link_survives_a_password_change(
    ann: User, browser: Browser, mailoutbox: list[EmailMessage]
) -> None:
    browser.post("/auth/email/resend", access=browser.access)
    outbox.deliver()
    assert change_password(browser).status_code == 200
    assert Browser().post("/auth/email/verify", link_in(mailoutbox[0])).status_code == 204


@pytest.mark.parametrize("state", [{"email_verified": True}, {"email": "", "email_key": None}])
def test_resend_sends_nothing_if_there_is_nothing_to_verify(browser: Browser, state: dict[str, Any]) -> None:
    User.objects.update(**state)
    response = browser.post("/auth/email/resend", access=browser.access)
    assert (response.status_code, response.content) == (202, b"")
    assert not Mail.objects.exists()


def test_resend_without_an_address_does_not_count_toward_a_limit(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    User.objects.update(email="", email_key=None)
    assert [browser.post("/auth/email/resend", access=browser.access).status_code for _ in range(2)] == [202, 202]


def test_resend_is_limited_by_address(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_THROTTLE_RATES = {"mail": "1/min"}
    browser.post("/auth/email/resend", access=browser.access)
    response = browser.post("/auth/email/resend", access=browser.access)
    assert (response.status_code, response.json()["code"]) == (429, "throttled")
    assert Mail.objects.count() == 1
    assert browser.post("/auth/email/resend", access=browser.access, REMOTE_ADDR="192.0.2.7").status_code == 202


def test_resend_queues_the_mail(browser: Browser) -> None:
    browser.post("/auth/email/resend", access=browser.access)
    mail = Mail.objects.get()
    assert (mail.kind, mail.address) == (MailKind.VERIFY_EMAIL, "ann@example.com")


# Checking a link before it is used


@pytest.fixture
def verification_link(ann: User, browser: Browser, mailoutbox: list[EmailMessage]) -> dict[str, Any]:
    browser.post("/auth/email/resend", access=browser.access)
    outbox.deliver()
    return link_in(mailoutbox.pop())


@pytest.mark.parametrize(
    ("mailed", "check", "use"),
    [
        ("link", "password/reset/check", "password/reset/confirm"),
        ("verification_link", "email/verify/check", "email/verify"),
    ],
)
def test_link_is_checked_without_using_it(
    request: pytest.FixtureRequest, browser: Browser, mailed: str, check: str, use: str
) -> None:
    link, somebody = request.getfixturevalue(mailed), Browser()
    events = SecurityEvent.objects.count()
    for _ in range(2):
        response = somebody.post(f"/auth/{check}", link)
        assert (response.status_code, response.content) == (204, b"")
        assert response["Cache-Control"] == "no-store"
    for wrong in ({"uid": "OTk5"}, {"uid": "x"}, {"token": "x"}):
        response = somebody.post(f"/auth/{check}", {**link, **wrong})
        assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert (SecurityEvent.objects.count(), browser.refresh().status_code) == (events, 200)

    assert somebody.post(f"/auth/{use}", {**link, "newPassword": NEW_PASSWORD}).status_code == 204
    response = somebody.post(f"/auth/{check}", link)
    assert (response.status_code, response.json()) == (400, LINK_REFUSED)


def test_link_is_checked_for_its_own_page(link: dict[str, Any], verification_link: dict[str, Any]) -> None:
    assert Browser().post("/auth/password/reset/check", verification_link).json() == LINK_REFUSED
    assert Browser().post("/auth/email/verify/check", link).json() == LINK_REFUSED


# Hostile input

HOSTILE: list[Any] = [
    None,
    True,
    42,
    1.5,
    [],
    {},
    ["x"],
    {"a": "b"},
    "",
    " ",
    "\0",
    "x\0y",
    "\ud800",
    "x\udfff",
    "x" * 100_000,
    "é" * 5000,
    "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 150,
    "a@" * 300,
    "MQ",
    "MTA=",
    "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5",
    "cw7-\N{SNOWMAN}",
    f"a@{'ﷺ' * 60}.example",
]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("register", "username"),
        ("register", "password"),
        ("register", "email"),
        ("password/change", "currentPassword"),
        ("password/change", "newPassword"),
        ("password/reset", "email"),
        ("password/reset/confirm", "uid"),
        ("password/reset/confirm", "token"),
        ("password/reset/confirm", "newPassword"),
        ("email/verify", "uid"),
        ("email/verify", "token"),
    ],
)
def test_no_value_is_a_server_error(browser: Browser, link: dict[str, Any], path: str, field: str) -> None:
    others = {"username": "bob", "password": PASSWORD, "currentPassword": PASSWORD, "newPassword": NEW_PASSWORD, **link}
    headers, cookie = {"Authorization": f"Bearer {browser.access}"}, browser.cookie
    for value in HOSTILE:
        browser.cookie = cookie
        # Written by hand, since DRF's client can't write a lone surrogate.
        body = json.dumps({**others, field: value})
        with transaction.atomic():
            response: Any = browser.http.post(f"/auth/{path}", body, content_type="application/json", headers=headers)
            assert response.status_code in {200, 201, 202, 204, 400}, ascii(value)[:20]
            if response.status_code == 400:
                assert response.json().keys() <= {field, "token"}, ascii(value)[:20]
                assert User.objects.get().check_password(PASSWORD)
            transaction.set_rollback(True)
        cache.clear()


@pytest.mark.parametrize("path", ["register", "password/change", "password/reset", "password/reset/confirm"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 50_000, b"\xff", b"null", b"[]", b"7", b'"text"', b"{}"],
    ids=lambda body: ascii(body)[:20],
)
def test_body_that_is_not_an_object_is_refused(browser: Browser, path: str, body: bytes) -> None:
    response: Any = browser.http.post(
        f"/auth/{path}", body, content_type="application/json", headers={"Authorization": f"Bearer {browser.access}"}
    )
    assert response.status_code == 400
    assert User.objects.get().check_password(PASSWORD)


def test_other_kinds_of_body_are_refused(browser: Browser) -> None:
    response: Any = browser.http.post("/auth/register", {"username": "bob", "password": PASSWORD}, format="multipart")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


# The end of an account


def test_account_is_deleted_with_all_its_data(
    ann: User, browser: Browser, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    caplog.set_level("INFO", "latchkey.security")
    with django_capture_on_commit_callbacks(execute=True):
        response = browser.post("/auth/account/delete", {"currentPassword": PASSWORD}, access=browser.access)
    assert response.status_code == 204
    assert response.cookies["refreshToken"].value == ""
    assert not User.objects.exists()
    assert not Session.objects.exists()
    assert not SecurityEvent.objects.exists()
    assert json.loads(caplog.messages[-1])["event"] == "account_deleted"
    assert browser.get("/api/me/").json()["code"] == "token_revoked"


def test_account_protected_by_other_data_stays(browser: Browser, ann: User) -> None:
    """The deployment may have a table that Django doesn't know."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (owner BIGINT NOT NULL REFERENCES accounts_user (id))")
        cursor.execute("INSERT INTO orders VALUES (%s)", [ann.pk])
    response = browser.post("/auth/account/delete", {"currentPassword": PASSWORD}, access=browser.access)
    assert (response.status_code, response.json()) == (
        409,
        {"detail": "The account can't be deleted, because other data depends on it.", "code": "account_in_use"},
    )
    assert not response.cookies
    assert browser.get("/api/me/").status_code == 200
    assert browser.refresh().status_code == 200


@pytest.mark.parametrize("refusal", [ProtectedError, RestrictedError])
def test_account_protected_by_a_model_stays(browser: Browser, refusal: Any) -> None:
    def protect(instance: User, **kwargs: Any) -> None:
        raise refusal("an order", {instance})

    pre_delete.connect(protect, sender=User)
    try:
        response = browser.post("/auth/account/delete", {"currentPassword": PASSWORD}, access=browser.access)
    finally:
        pre_delete.disconnect(protect, sender=User)
    assert (response.status_code, response.json()["code"]) == (409, "account_in_use")
    assert browser.get("/api/me/").status_code == 200


def test_account_is_not_deleted_with_a_wrong_password(browser: Browser) -> None:
    response = browser.post("/auth/account/delete", {"currentPassword": "wrong"}, access=browser.access)
    assert (response.status_code, response.json()) == (400, {"currentPassword": ["That password is wrong."]})
    assert User.objects.exists()
    assert browser.get("/api/me/").status_code == 200


def test_account_is_not_deleted_without_an_access_token(browser: Browser) -> None:
    assert browser.post("/auth/account/delete", {"currentPassword": PASSWORD}).status_code == 401
    assert User.objects.exists()
