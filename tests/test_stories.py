"""Stories of an account's whole life: ann has a laptop and a phone, and reads her mail.

Other stories stand beside the tests of their subjects: a sign-in from a new device
(accounts/test_notices.py), two people and one address (accounts/test_required_verification.py), a thief before the
second factor (accounts/test_second_factor.py), a password given again (accounts/test_reauthentication.py), a shared
computer (tokens/test_remember.py), mails in two languages (config/test_languages.py).
"""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import AuthenticatorApp, Mail, RecoveryCode, User
from tests.accounts.authenticator import Authenticator
from tests.accounts.devices import Device, challenge, confirm, enrol, set_up
from tests.accounts.mails import link_in
from tests.api.people import Person, register, sign_in
from tests.clients import PASSWORD, App, Browser, claims_of
from tokens import kinds
from tokens.models import SecurityEvent, Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Mobile/15E148 Safari/604.1"
)
ANN = "ann@example.com"
NEW_PASSWORD = "another horse battery"
NOTICES = sorted(kinds.notices())
REFUSED = {"detail": "The username or password is wrong.", "code": "invalid_credentials"}
LINK_REFUSED = {"token": ["The link is not valid or was used before. Ask for a new one."]}
WRONG_PASSWORD = {"currentPassword": ["That password is wrong."]}
WRONG_CODE = {"detail": "This code is wrong or was already used.", "code": "invalid_code"}
CODE_REFUSED = {"code": ["This code is wrong or was already used."]}
THROTTLED = "throttled"


# The people


@pytest.fixture(autouse=True)
def post(settings: Settings) -> Iterator[None]:
    """Send every notice. Fail if a story leaves a mail unread."""
    settings.NOTICES = NOTICES
    yield
    outbox.deliver()
    assert [(message.to, message.subject) for message in mail.outbox] == []


def arrived(address: str = ANN) -> dict[str, EmailMessage]:
    """Send the queued mails; return the new ones to the address, by subject."""
    outbox.deliver()
    here = [message for message in mail.outbox if message.to == [address]]
    mail.outbox = [message for message in mail.outbox if message not in here]
    found = {str(message.subject): message for message in here}
    assert len(found) == len(here)
    return found


@pytest.fixture
def laptop(db: None, clock: TimeMachineFixture) -> Person:
    """The browser in which ann registered and opened the mailed link."""
    laptop = register("ann")
    (message,) = arrived().values()
    assert laptop.post("/auth/email/verify", link_in(message)).status_code == 204
    clock.shift(60)
    return laptop


@pytest.fixture
def phone(laptop: Person, clock: TimeMachineFixture) -> Person:
    """Another device, on which ann signed in a minute later. Its notice has been read."""
    phone = sign_in("ann", user_agent=PHONE)
    assert arrived().keys() == {"A sign-in from a new device"}
    clock.shift(60)
    return phone


@pytest.fixture
def office(db: None) -> Client:
    """The admin, where root has signed in."""
    User.objects.create_superuser("root", password=PASSWORD)
    office = Client()
    assert office.post("/admin/login/", {"username": "root", "password": PASSWORD}).status_code == 302
    return office


# What they do


def assert_in(*people: Person) -> None:
    for person in people:
        assert (person.call("get", "/api/me/").status_code, person.refresh().status_code) == (200, 200)


def assert_out(*people: Person, code: str = "token_revoked") -> None:
    """Expect that both tokens are refused, and that the browser drops its cookie."""
    for person in people:
        for refused in (person.call("get", "/api/me/"), person.refresh()):
            assert (refused.status_code, refused.json()["code"]) == (401, code)
        assert refused.cookies["refreshToken"]["max-age"] == 0
        assert person.cookie == ""


def assert_refused(password: str, username: str = "ann") -> None:
    """Expect that the password is refused everywhere."""
    count = Session.objects.count()
    response = Browser().login(username, password)
    assert (response.status_code, response.json()) == (401, REFUSED)
    assert not response.cookies
    assert Session.objects.count() == count


def log_of(person: Person) -> list[Any]:
    events: list[Any] = person.call("get", "/api/security-events/").json()["results"]
    return events


def kinds_of(person: Person) -> list[str]:
    return [event["kind"] for event in log_of(person)]


def sid_of(person: Person) -> str:
    return str(claims_of(person.access)["sid"])


def change_password(person: Person, current: str = PASSWORD, new: str = NEW_PASSWORD) -> Any:
    return person.change_password(current, new)


def ask_for_reset(email: str = ANN, **extra: Any) -> Any:
    return Browser().post("/auth/password/reset", {"email": email}, **extra)


def reset(message: EmailMessage, new: str = NEW_PASSWORD, **extra: Any) -> Any:
    return Browser().post("/auth/password/reset/confirm", {**link_in(message), "newPassword": new}, **extra)


def resend(person: Person, **extra: Any) -> Any:
    return person.post("/auth/email/resend", access=person.access, **extra)


def verify(message: EmailMessage) -> Any:
    return Browser().post("/auth/email/verify", link_in(message))


# Passwords


def test_changed_password_keeps_the_laptop_signed_in_and_ends_the_phone(laptop: Person, phone: Person) -> None:
    changed_in = sid_of(laptop)
    assert change_password(laptop).status_code == 200
    assert sid_of(laptop) != changed_in
    assert_out(phone)
    assert_in(laptop)
    assert_refused(PASSWORD)
    assert phone.login(password=NEW_PASSWORD).status_code == 200
    message = arrived()["Your password was changed"]
    assert "2030-01-01 12:02 (UTC)" in str(message.body)
    events = {event["kind"]: event for event in log_of(phone) if event["createdAt"] == "2030-01-01T12:02:00Z"}
    assert events.keys() == {"password_changed", "session_revoked", "login_failed", "login"}
    assert events["password_changed"]["session"] == changed_in
    assert events["session_revoked"]["reason"] == "password"


def test_wrong_current_password_ends_no_session_and_sends_no_mail(laptop: Person, phone: Person) -> None:
    response = change_password(laptop, "guess")
    assert (response.status_code, response.json()) == (400, WRONG_PASSWORD)
    assert_in(laptop, phone)
    assert_refused(NEW_PASSWORD)
    assert arrived() == {}
    assert "login_failed" in kinds_of(phone)
    assert "password_changed" not in kinds_of(phone)


def test_reset_by_the_mailed_link_ends_both_browsers_and_works_once(laptop: Person, phone: Person) -> None:
    assert ask_for_reset().status_code == 202
    assert_in(laptop, phone)
    message = arrived()["Reset your password"]
    assert reset(message).status_code == 204
    assert_out(laptop, phone)
    assert_refused(PASSWORD)
    again = reset(message, "a third horse entirely")
    assert (again.status_code, again.json()) == (400, LINK_REFUSED)
    assert_refused("a third horse entirely")
    assert phone.login(password=NEW_PASSWORD).status_code == 200
    assert arrived().keys() == {"Your password was changed"}
    assert kinds_of(phone).count("password_reset") == 1
    assert [event.get("reason") for event in log_of(phone) if event["kind"] == "session_revoked"] == ["password"] * 2


def test_reset_link_is_valid_for_an_hour_and_the_current_password(
    laptop: Person, phone: Person, clock: TimeMachineFixture
) -> None:
    ask_for_reset()
    late = arrived()["Reset your password"]
    clock.shift(3601)
    ask_for_reset()
    outdated = arrived()["Reset your password"]
    laptop.refresh()
    assert change_password(laptop, new="a third horse entirely").status_code == 200
    arrived()
    for message in (late, outdated):
        response = reset(message)
        assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert_in(laptop)
    assert_refused(NEW_PASSWORD)
    assert "password_reset" not in kinds_of(laptop)
    assert phone.login(password="a third horse entirely").status_code == 200


@pytest.mark.parametrize("route", ["admin", "changepassword", "shell", "hash"])
def test_password_changed_outside_the_api_ends_both_browsers(
    laptop: Person, phone: Person, office: Client, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = laptop.user
    match route:
        case "admin":
            form = {"usable_password": "true", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
            assert office.post(f"/admin/accounts/user/{ann.pk}/password/", form).status_code == 302
        case "changepassword":
            monkeypatch.setattr("getpass.getpass", lambda **_: NEW_PASSWORD)
            call_command("changepassword", "ann", stdout=StringIO())
        case "shell":
            ann.set_password(NEW_PASSWORD)
            ann.save()
        case "hash":
            ann.password = make_password(NEW_PASSWORD)
            ann.save()
    assert_out(laptop, phone)
    assert_refused(PASSWORD)
    assert phone.login(password=NEW_PASSWORD).status_code == 200
    assert arrived().keys() == {"Your password was changed"}
    assert {"password_changed", "login"} <= set(kinds_of(phone))


def test_common_password_is_refused_everywhere(laptop: Person, phone: Person, settings: Settings) -> None:
    settings.AUTH_PASSWORD_VALIDATORS = [
        {"NAME": "accounts.validators.ForbiddenWordsValidator", "OPTIONS": {"words": ["acme"]}}
    ]
    ask_for_reset()
    message = arrived()["Reset your password"]
    refused = ["This password is too easy to guess on this site."]
    doors = {
        "password": Browser().post("/auth/register", {"username": "bob", "password": "Acme2030!"}),
        "newPassword": change_password(laptop, new="Acme2030!"),
        " newPassword": reset(message, "Acme2030!"),
    }
    for field, response in doors.items():
        assert (response.status_code, response.json()) == (400, {field.strip(): refused})
    assert User.objects.get() == laptop.user
    assert_refused("Acme2030!")
    assert_in(laptop, phone)
    assert reset(message, "acme garden horse").status_code == 204
    assert arrived().keys() == {"Your password was changed"}


# The address


def test_resent_link_verifies_the_address(db: None) -> None:
    laptop, phone = register("ann"), sign_in("ann", user_agent=PHONE)
    first = arrived()["Confirm your email address"]
    assert resend(phone).status_code == 202
    second = arrived()["Confirm your email address"]
    assert not laptop.call("get", "/api/me/").json()["emailVerified"]
    assert verify(second).status_code == 204
    assert laptop.call("get", "/api/me/").json()["emailVerified"]
    for message in (first, second):
        response = verify(message)
        assert (response.status_code, response.json()) == (400, LINK_REFUSED)
    assert kinds_of(laptop).count("email_verified") == 1
    assert resend(phone).status_code == 202
    assert arrived() == {}


def test_changed_address_sends_a_notice_to_the_old_one_and_a_link_to_the_new(laptop: Person, phone: Person) -> None:
    wrong = laptop.call("patch", "/api/me/", {"email": "new@example.com", "currentPassword": "guess"})
    assert (wrong.status_code, wrong.json()) == (400, WRONG_PASSWORD)
    assert (arrived(), arrived("new@example.com")) == ({}, {})
    body = {"email": "new@example.com", "currentPassword": PASSWORD}
    assert laptop.call("patch", "/api/me/", body).status_code == 200

    notices, sent = arrived(), arrived("new@example.com")
    assert notices.keys() == {"Your email address was changed"}
    assert "2030-01-01 12:02 (UTC)" in str(notices["Your email address was changed"].body)
    assert sent.keys() == {"Confirm your email address"}
    me = phone.call("get", "/api/me/").json()
    assert (me["email"], me["emailVerified"]) == ("new@example.com", False)
    assert verify(sent["Confirm your email address"]).status_code == 204
    assert phone.call("get", "/api/me/").json()["emailVerified"]
    assert {"email_changed", "email_verified"} <= set(kinds_of(phone))
    assert_in(laptop, phone)

    assert_refused(PASSWORD, ANN)
    assert phone.login("new@example.com").status_code == 200
    assert ask_for_reset(ANN).status_code == 202
    assert (arrived(), arrived("new@example.com")) == ({}, {})


def test_address_matches_in_every_case_and_unicode_form(db: None) -> None:
    kept, typed = "Ann@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "ANN@BU\u0308CHER.EXAMPLE"
    laptop, phone = register("ann", email=kept), Person("ann")
    assert arrived("Ann@xn--bcher-kva.example").keys() == {"Confirm your email address"}
    assert phone.login(typed).status_code == 200
    assert sid_of(phone) in {found["id"] for found in laptop.call("get", "/api/sessions/").json()["results"]}
    response = Browser().post("/auth/register", {"username": "bob", "email": typed, "password": PASSWORD})
    assert (response.status_code, response.json()) == (400, {"email": ["This address is taken."]})
    assert User.objects.get() == laptop.user
    assert ask_for_reset(typed).status_code == 202
    assert arrived("Ann@xn--bcher-kva.example").keys() == {"Reset your password"}


def test_mailed_link_uses_the_public_url_for_any_request_host(laptop: Person, settings: Settings) -> None:
    settings.ALLOWED_HOSTS, settings.PUBLIC_URL = ["*"], "https://auth.example.com"
    forged = {"HTTP_HOST": "evil.example", "HTTP_X_FORWARDED_HOST": "evil.example"}
    assert ask_for_reset(**forged).status_code == 202
    message = arrived()["Reset your password"]
    assert re.findall(r"https?://[^/\s]+", str(message.body)) == ["https://auth.example.com"]
    assert "evil" not in message.message().as_string()
    assert reset(message).status_code == 204
    assert_out(laptop)
    arrived()


def test_failing_mail_server_breaks_no_request_and_the_mail_can_be_requested_again(
    db: None, settings: Settings, clock: TimeMachineFixture, caplog: pytest.LogCaptureFixture
) -> None:
    working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, "tests.accounts.mails.Refusing"
    laptop = register("ann")
    assert arrived() == {}
    assert [message for message in caplog.messages if "could not be sent: SMTPDataError 554" in message]
    clock.shift(60)
    settings.EMAIL_BACKEND = working
    phone = sign_in("ann")
    assert resend(phone).status_code == 202
    message = arrived()["Confirm your email address"]
    assert verify(message).status_code == 204
    assert laptop.call("get", "/api/me/").json()["emailVerified"]
    clock.shift(timedelta(hours=1))
    assert arrived() == {}  # the first mail has lost its purpose


@pytest.mark.parametrize("dies", ["before the mail has left", "after it"])
def test_process_killed_while_sending_loses_no_mail(
    laptop: Person, phone: Person, clock: TimeMachineFixture, dies: str
) -> None:
    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    ask_for_reset()
    owner, method, sent = (EmailMultiAlternatives, "send", 0) if dies.startswith("before") else (Mail, "delete", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, die)
        with pytest.raises(KeyboardInterrupt):
            outbox.deliver()
    first = arrived()
    assert len(first) == sent
    clock.shift(120)
    again = arrived()["Reset your password"]
    assert reset(again).status_code == 204
    assert_out(laptop, phone)
    for message in first.values():
        assert (reset(message, PASSWORD).status_code, reset(message, PASSWORD).json()) == (400, LINK_REFUSED)
    assert_refused(PASSWORD)
    assert arrived().keys() == {"Your password was changed"}


# Notices


def test_reuse_of_a_copied_token_ends_the_session_and_mails_the_owner(
    laptop: Person, phone: Person, clock: TimeMachineFixture
) -> None:
    thief = Person("ann", user_agent="curl/8.0")
    thief.http.defaults["REMOTE_ADDR"] = "203.0.113.66"
    thief.cookie = laptop.cookie
    for _ in range(2):
        clock.shift(60)
        assert_in(laptop)
    clock.shift(60)
    response = thief.refresh()
    assert (response.status_code, response.json()["code"]) == (401, "token_reused")
    assert_out(laptop)
    assert_in(phone)

    (subject,) = notices = arrived()
    assert subject == "You were signed out for your safety"
    assert "2030-01-01 12:05 (UTC)" in str(notices[subject].body)
    assert "Firefox on Linux, last used from 127.0.0.1" in str(notices[subject].body)
    assert "used twice" in str(notices[subject].body)
    assert "from 203.0.113.66." in str(notices[subject].body)
    assert "change your password" in str(notices[subject].body)
    (event,) = [event for event in log_of(phone) if event["kind"] == "token_reused"]
    assert (event["ipAddress"], event["userAgent"], event["session"]) == ("203.0.113.66", "curl/8.0", sid_of(laptop))
    assert laptop.login().status_code == 200
    assert_in(laptop, phone)


def act_out(laptop: Person, clock: TimeMachineFixture) -> None:
    """Cause every event that sends the owner a mail."""
    phone = sign_in("ann", user_agent=PHONE)
    clock.shift(60)
    device = Device(enrol(laptop).json()["secret"])
    codes = confirm(laptop, device.code()).json()["recoveryCodes"]
    assert phone.answer(challenge(phone), codes[0]).status_code == 200
    for _ in range(10):
        assert Browser().answer(challenge(), device.wrong(), REMOTE_ADDR="203.0.113.66").status_code == 401
    clock.shift(60)
    assert laptop.reauthenticate(code=device.code()).status_code == 200
    key = Authenticator(counts=True)
    asked = laptop.post("/auth/passkeys/options", {}, laptop.access).json()
    answer = {"challenge": asked["challenge"], "credential": key.create(asked["publicKey"])}
    added = laptop.post("/auth/passkeys", answer, laptop.access)
    assert added.status_code == 201, added.json()
    for count, status in ((3, 200), (1, 401)):
        clock.shift(1)
        key.passkeys[0].sign_count = count
        asked = Browser().post("/auth/login/passkey/options", {}).json()
        answer = {"challenge": asked["challenge"], "credential": key.get(asked["publicKey"])}
        assert Browser().post("/auth/login/passkey", answer).status_code == status
    assert laptop.call("delete", f"/auth/passkeys/{added.json()['id']}").status_code == 204
    for act, status in (("recovery-codes", 200), ("remove", 204)):
        clock.shift(60)
        body = {"currentPassword": PASSWORD, "code": device.code()}
        assert laptop.post(f"/auth/second-factor/{act}", body, laptop.access).status_code == status
    copied = laptop.cookie
    for _ in range(2):
        laptop.refresh()
        clock.shift(60)
    assert laptop.refresh(copied).status_code == 401
    assert change_password(phone).status_code == 200
    body = {"username": "anna", "email": "", "currentPassword": NEW_PASSWORD}
    assert phone.call("patch", "/api/me/", body).status_code == 200


@pytest.mark.parametrize("left_out", ["", *NOTICES])
def test_each_notice_can_be_turned_off_by_name(
    laptop: Person, settings: Settings, clock: TimeMachineFixture, left_out: str
) -> None:
    settings.NOTICES = [notice for notice in NOTICES if notice != left_out]
    User.objects.update(email_verified=True)
    act_out(laptop, clock)
    assert arrived().keys() == {str(kinds.notices()[notice].subject) for notice in settings.NOTICES}


# Limits


def test_strangers_failures_do_not_lock_out_a_known_network(laptop: Person, phone: Person, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (3, 60.0), "login_anywhere": (5, 300.0)}
    for name in ("ann", "nobody"):
        for last in range(5):
            assert Browser().login(name, "guess", REMOTE_ADDR=f"203.0.113.{last}").status_code == 401
        refused = Browser().login(name, PASSWORD, REMOTE_ADDR="203.0.113.9")
        assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, THROTTLED, "300")
        assert not refused.cookies
    assert_in(laptop, phone)
    assert laptop.login().status_code == 200
    (event,) = [event for event in log_of(phone) if event["kind"] == "login_failed"]
    assert event["ipAddress"] == "203.0.113.4"
    assert arrived() == {}


def test_locked_out_owner_signs_in_by_the_mailed_link(laptop: Person, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (3, 60.0), "login_anywhere": (5, 300.0)}
    for last in range(5):
        assert Browser().login("ann", "guess", REMOTE_ADDR=f"203.0.113.{last}").status_code == 401
    abroad = {"REMOTE_ADDR": "203.0.113.9"}
    assert Browser().login("ann", **abroad).status_code == 429
    ask_for_reset(**abroad)
    assert reset(arrived()["Reset your password"], **abroad).status_code == 204
    assert arrived().keys() == {"Your password was changed"}
    assert Browser().login("ann", NEW_PASSWORD, REMOTE_ADDR="203.0.113.8").status_code == 429
    assert Browser().login("ann", NEW_PASSWORD, **abroad).status_code == 200
    assert_out(laptop)


def test_links_to_one_address_share_one_limit(settings: Settings, clock: TimeMachineFixture) -> None:
    settings.TOKENS_LIMITS = {"mail": (3, 600.0)}
    laptop, phone = register("ann"), sign_in("ann")
    for again in (None, laptop, phone):
        assert again is None or resend(again).status_code == 202
        assert arrived().keys() == {"Confirm your email address"}
    assert [ask_for_reset("nobody@example.com").status_code for _ in range(3)] == [202] * 3
    for refused in (resend(laptop), resend(phone), ask_for_reset("NOBODY@example.com")):
        assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, THROTTLED, "600")
    assert arrived() == {}
    assert ask_for_reset("ANN@example.com").status_code == 202
    assert arrived().keys() == {"Reset your password"}
    assert_in(laptop, phone)
    clock.shift(600)
    assert ask_for_reset("nobody@example.com").status_code == resend(phone).status_code == 202
    assert resend(laptop).status_code == 429
    assert arrived().keys() == {"Confirm your email address"}


FLOODS: dict[str, tuple[str, Callable[..., Any]]] = {
    "register": ("register", lambda _, **e: Browser().post("/auth/register", {"username": "a@b"}, **e)),
    "login": ("login", lambda _, **e: Browser().login("nobody", **e)),
    "second factor": ("login", lambda _, **e: Browser().answer("x", "123456", **e)),
    "reset": ("mail", lambda _, **e: Browser().post("/auth/password/reset", {"email": "nobody@example.com"}, **e)),
    "resend": ("mail", resend),
    "refresh": ("refresh", lambda _, **e: Browser().refresh(**e)),
}


@pytest.mark.parametrize("door", FLOODS)
def test_flood_from_one_ip_address_throttles_nobody_else(
    laptop: Person, phone: Person, settings: Settings, door: str
) -> None:
    rate, knock = FLOODS[door]
    settings.TOKENS_THROTTLE_RATES = {rate: "2/min"}
    here, there = {"REMOTE_ADDR": "203.0.113.1"}, {"REMOTE_ADDR": "203.0.113.2"}
    answers = [knock(laptop, **here) for _ in range(3)]
    usual, _, refused = answers
    assert usual.status_code < 429
    assert (refused.status_code, refused.json()["code"]) == (429, THROTTLED)
    assert 0 < int(refused["Retry-After"]) <= 60
    assert knock(phone, **there).status_code == usual.status_code
    assert_in(laptop, phone)
    assert User.objects.get() == laptop.user
    assert arrived() == {}


@pytest.mark.parametrize(("proxies", "seen"), [(0, "127.0.0.1"), (1, "198.51.100.7")])
def test_forged_forwarded_address_is_ignored_everywhere(
    laptop: Person, settings: Settings, proxies: int, seen: str
) -> None:
    """With one proxy in front, or none. Only the last value is the proxy's; the thief wrote those before it."""
    settings.TRUSTED_PROXIES = proxies
    settings.TOKENS_LIMITS = {"login": (2, 60.0)}
    sent = [{"HTTP_X_FORWARDED_FOR": f"203.0.113.{last}, 198.51.100.7"} for last in range(4)]
    assert Person("ann", user_agent=PHONE).login(**sent[0]).status_code == 200
    assert [Browser().login("ann", "guess", **forged).status_code for forged in sent[:3]] == [401, 401, 429]
    assert f"from {seen}" in str(arrived()["A sign-in from a new device"].body)
    assert {event["ipAddress"] for event in log_of(laptop) if event["kind"] == "login_failed"} == {seen}
    assert {found["ipAddress"] for found in laptop.call("get", "/api/sessions/").json()["results"]} == {
        "127.0.0.1",
        seen,
    }
    assert_in(laptop)


# The log


def test_events_are_visible_to_the_owner_staff_and_monitoring(
    laptop: Person,
    phone: Person,
    office: Client,
    clock: TimeMachineFixture,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    caplog.set_level(logging.INFO, "latchkey.security")
    with django_capture_on_commit_callbacks(execute=True):
        assert laptop.reauthenticate("guess").status_code == 400
        clock.shift(1)
        assert laptop.reauthenticate().status_code == 200
        sid = sid_of(laptop)
        clock.shift(1)
        assert laptop.logout().status_code == 204
    newest = log_of(phone)[:3]
    assert [(event["kind"], event["createdAt"], event["session"]) for event in newest] == [
        ("logout", "2030-01-01T12:02:02Z", sid),
        ("reauthenticated", "2030-01-01T12:02:01Z", sid),
        ("login_failed", "2030-01-01T12:02:00Z", None),
    ]
    assert all(event["ipAddress"] == "127.0.0.1" and "Firefox/140.0" in event["userAgent"] for event in newest)
    page = office.get("/admin/latchkey/securityevent/", {"q": "ann"}).content.decode()
    for shown in ("signed out", "failed sign-in", "Firefox on Linux", "127.0.0.1", "Mobile Safari on iOS"):
        assert shown in page
    lines = [json.loads(record.message) for record in caplog.records if record.name == "latchkey.security"]
    assert {(line["event"], line["session"]) for line in lines} == {
        (event["kind"], event["session"]) for event in newest
    }
    clock.shift(timedelta(days=366))
    call_command("flushexpiredtokens", verbosity=0)
    assert not SecurityEvent.objects.exists()


# The end of an account, and the beginning of others


def test_deleted_account_is_signed_out_everywhere_and_leaves_one_log_line(
    laptop: Person, phone: Person, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    caplog.set_level(logging.INFO, "latchkey.security")
    delete = ("/auth/account/delete", {"currentPassword": PASSWORD})
    wrong = laptop.post(delete[0], {"currentPassword": "guess"}, laptop.access)
    assert (wrong.status_code, wrong.json()) == (400, WRONG_PASSWORD)
    assert_in(laptop, phone)
    ask_for_reset()
    link = arrived()["Reset your password"]
    ask_for_reset()
    with django_capture_on_commit_callbacks(execute=True):
        gone = laptop.post(*delete, laptop.access)
    assert (gone.status_code, gone.cookies["refreshToken"]["max-age"]) == (204, 0)
    assert json.loads(caplog.messages[-1])["event"] == "account_deleted"
    assert_out(phone)
    assert phone.login().json() == REFUSED
    assert (reset(link).status_code, reset(link).json()) == (400, LINK_REFUSED)
    assert arrived() == {}
    assert not any(
        rows.objects.exists() for rows in (User, Session, SecurityEvent, AuthenticatorApp, RecoveryCode, Mail)
    )
    other = register("ann")
    assert sorted(kinds_of(other)) == ["login", "registered"]
    assert arrived().keys() == {"Confirm your email address"}


def test_closed_registration_admits_only_users_added_by_staff(
    laptop: Person, phone: Person, office: Client, settings: Settings
) -> None:
    settings.REGISTRATION_OPEN = False
    body = {"username": "bob", "email": "bob@example.com", "password": PASSWORD}
    response = Browser().post("/auth/register", body)
    assert (response.status_code, response.json()["code"]) == (403, "registration_closed")
    assert not User.objects.filter(username="bob").exists()
    assert_in(laptop, phone)
    form = {"username": "bob", "email": "bob@example.com", "usable_password": "false"}
    assert office.post("/admin/accounts/user/add/", form).status_code == 302
    assert_refused(PASSWORD, "bob")
    choose(office, "send_password_reset", "bob")
    assert reset(arrived("bob@example.com")["Choose a password"]).status_code == 204
    assert arrived("bob@example.com").keys() == {"Your password was changed"}
    assert Browser().login("bob", NEW_PASSWORD).status_code == 200


# By staff


def choose(office: Client, action: str, username: str = "ann") -> str:
    """Run the action on the user in the admin's list; return the page's messages."""
    chosen = {"action": action, "_selected_action": [User.objects.get(username=username).pk]}
    response: Any = office.post("/admin/accounts/user/", chosen, follow=True)
    return " ".join(str(message) for message in response.context["messages"])


def set_active(office: Client, person: Person, is_active: bool, door: str) -> None:
    if door == "api":
        staff = sign_in("root")
        assert staff.call("patch", person.path, {"isActive": is_active}).status_code == 200
        return
    form = {"username": "ann", "email": ANN, "email_verified": "on"} | ({"is_active": "on"} if is_active else {})
    page: Any = office.get(f"/admin/accounts/user/{person.user.pk}/change/")
    for inline in page.context["inline_admin_formsets"]:
        form |= {f"{inline.formset.prefix}-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    assert office.post(f"/admin/accounts/user/{person.user.pk}/change/", form).status_code == 302


@pytest.mark.parametrize("door", ["api", "admin"])
def test_account_deactivated_by_staff_returns_without_its_sessions(
    laptop: Person, phone: Person, office: Client, door: str
) -> None:
    cookies = laptop.cookie, phone.cookie
    set_active(office, laptop, False, door)
    assert_out(laptop, phone)
    assert_refused(PASSWORD)
    assert ask_for_reset().status_code == 202
    assert arrived() == {}
    set_active(office, laptop, True, door)
    laptop.cookie, phone.cookie = cookies
    assert_out(laptop, phone)
    assert phone.login().status_code == 200
    reasons = {event["session"]: event["reason"] for event in log_of(phone) if event["kind"] == "session_revoked"}
    assert list(reasons.values()) == ["deactivated"] * 2


@pytest.mark.parametrize("door", ["api", "admin"])
def test_sessions_ended_by_staff_are_over_and_the_password_still_works(
    laptop: Person, phone: Person, office: Client, door: str
) -> None:
    if door == "api":
        assert sign_in("root").call("post", f"{laptop.path}revoke-sessions/").json() == {"revoked": 2}
    else:
        assert choose(office, "revoke_sessions") == "2 sessions were revoked."
    assert_out(laptop, phone)
    assert phone.login().status_code == 200
    assert [event["reason"] for event in log_of(phone) if event["kind"] == "session_revoked"] == ["staff"] * 2
    assert arrived() == {}


@pytest.mark.parametrize("door", ["api", "admin"])
def test_link_that_staff_sends_lets_the_owner_choose_a_password(
    laptop: Person, phone: Person, office: Client, door: str
) -> None:
    if door == "api":
        assert sign_in("root").call("post", f"{laptop.path}send-password-reset/").content == b""
    else:
        assert choose(office, "send_password_reset") == "1 link was sent."
    assert_in(laptop, phone)
    message = arrived()["Choose a password"]
    assert kinds_of(phone)[0] == "password_reset_sent"
    assert reset(message).status_code == 204
    assert_out(laptop, phone)
    assert_refused(PASSWORD)
    assert phone.login(password=NEW_PASSWORD).status_code == 200
    assert reset(message, PASSWORD).json() == LINK_REFUSED
    assert arrived().keys() == {"Your password was changed"}


# The second factor


def test_second_factor_enabled_on_the_laptop_is_required_on_the_phone(laptop: Person, phone: Person) -> None:
    wrong = enrol(laptop, "guess")
    assert (wrong.status_code, wrong.json()) == (400, WRONG_PASSWORD)
    device = Device(enrol(laptop).json()["secret"])
    assert phone.login().status_code == 200  # no code is required before the first one was confirmed
    assert confirm(laptop, device.code()).status_code == 200
    assert arrived().keys() == {"Two-factor authentication was turned on"}
    assert_in(laptop, phone)

    refused = phone.login()
    assert (refused.status_code, refused.json()["code"], refused.cookies) == (401, "second_factor_required", {})
    given = refused.json()["challenge"]
    assert phone.answer(given, device.code(1)).status_code == 200
    assert claims_of(phone.access)["amr"] == ["pwd", "otp"]
    for client in (Browser(), App()):
        again = client.answer(challenge(), device.code(1))
        assert (again.status_code, again.json(), client.access) == (401, WRONG_CODE, "")
        again = client.answer(given, device.code(1))
        assert (again.status_code, again.json()["code"], client.access) == (401, "invalid_challenge", "")
    assert_in(laptop, phone)
    assert {"second_factor_enabled", "second_factor_failed"} <= set(kinds_of(laptop))


def test_recovery_code_replaces_a_lost_device_until_the_factor_is_removed(
    laptop: Person, phone: Person, clock: TimeMachineFixture
) -> None:
    enrolled = set_up(laptop)
    arrived()
    assert phone.answer(challenge(phone), enrolled.codes[0]).status_code == 200
    assert arrived().keys() == {"A recovery code was used"}
    again = Browser().answer(challenge(), enrolled.codes[0])
    assert (again.status_code, again.json()) == (401, WRONG_CODE)
    remove = ("/auth/second-factor/remove", {"currentPassword": PASSWORD, "code": enrolled.codes[0]})
    refused = phone.post(*remove, phone.access)
    assert (refused.status_code, refused.json()) == (400, CODE_REFUSED)
    assert challenge()
    assert arrived() == {}
    clock.shift(60)
    remove[1]["code"] = enrolled.codes[1]
    assert phone.post(*remove, phone.access).status_code == 204
    assert arrived().keys() == {"A recovery code was used", "Two-factor authentication was turned off"}
    assert Browser().login().status_code == 200
    assert {"recovery_code_used", "second_factor_removed"} <= set(kinds_of(laptop))
    assert_in(laptop, phone)


def test_second_factor_and_both_sessions_survive_key_rotation(
    laptop: Person, phone: Person, settings: Settings, clock: TimeMachineFixture
) -> None:
    device = set_up(laptop).device
    arrived()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key " * 5, [settings.SECRET_KEY]
    clock.shift(60)
    assert_in(laptop, phone)
    call_command("reencryptsecrets", stdout=StringIO())
    settings.SECRET_KEY_FALLBACKS = []
    assert_in(laptop, phone)
    assert Browser().answer(challenge(), device.wrong()).json() == WRONG_CODE
    assert phone.answer(challenge(phone), device.code()).status_code == 200
    assert "second_factor_failed" in kinds_of(laptop)
