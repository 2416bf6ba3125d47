"""The second factor, as stories: ann has a browser and a device, and a thief has ann's password."""

import json
import re
from base64 import b32encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import segno
from django.contrib.auth.hashers import make_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.factors import codes, encryption, second_factor
from accounts.mail import outbox
from accounts.models import AuthenticatorApp, RecoveryCode, User
from accounts.owner import username
from tests.accounts.devices import Device, Enrolled, challenge, confirm, enrol, set_up
from tests.accounts.mails import link_in
from tests.clients import PASSWORD, App, Browser, claims_of
from tests.racing import in_parallel, just_before
from tokens.domain import signing_in
from tokens.exceptions import ChallengeNotValid
from tokens.models import Reason, SecurityEvent, Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

NEW_PASSWORD = "another horse battery"
TRANSACTION = "SAVEPOINT"
THREADS = 8
WRONG_CODE = {"detail": "This code is wrong or was already used.", "code": "invalid_code"}
WRONG_CHALLENGE = {"detail": str(ChallengeNotValid.message), "code": "invalid_challenge"}
MALFORMED: list[Any] = [None, True, [], {}, ["x"], "", " ", "\0", "\ud800", "x" * 5000, "é" * 5000]


@pytest.fixture
def ann(db: None) -> User:
    """A user whose verified address allows a second factor."""
    return User.objects.create_user("ann", "ann@example.com", PASSWORD, email_verified=True)


def renew(browser: Browser, code: str, password: str = PASSWORD) -> Any:
    body = {"currentPassword": password, "code": code}
    return browser.post("/auth/second-factor/recovery-codes", body, browser.access)


def remove(browser: Browser, code: str, password: str = PASSWORD) -> Any:
    return browser.post("/auth/second-factor/remove", {"currentPassword": password, "code": code}, browser.access)


@pytest.fixture
def ann_has(browser: Browser, clock: TimeMachineFixture) -> Enrolled:
    """A second factor that ann enabled a while ago."""
    enrolled = set_up(browser)
    clock.shift(300)
    return enrolled


def status(browser: Browser) -> Any:
    return browser.get("/auth/second-factor").json()


def kinds() -> list[str]:
    return list(SecurityEvent.objects.order_by("created_at", "id").values_list("kind", flat=True))


def events(kind: str) -> list[SecurityEvent]:
    return list(SecurityEvent.objects.filter(kind=kind))


# Setting it up


def test_second_factor_is_required_once_confirmed(browser: Browser, clock: TimeMachineFixture) -> None:
    assert status(browser) == {"enabled": False, "enabledAt": None, "recoveryCodesLeft": 0, "passkeys": 0}
    given = enrol(browser)
    assert (given.status_code, given.json().keys(), given["Cache-Control"]) == (
        200,
        {"secret", "otpauthUri", "qrCode"},
        "no-store",
    )
    assert Browser().login().status_code == 200
    assert not status(browser)["enabled"]

    device = Device(given.json()["secret"])
    confirmed = confirm(browser, device.code())
    assert (confirmed.status_code, confirmed["Cache-Control"]) == (200, "no-store")
    codes = confirmed.json()["recoveryCodes"]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([a-z2-7]{6}-){3}[a-z2-7]{6}", code) for code in codes)
    assert status(browser) == {
        "enabled": True,
        "enabledAt": "2030-01-01T12:00:00Z",
        "recoveryCodesLeft": 10,
        "passkeys": 0,
    }
    assert browser.refresh().status_code == 200
    assert challenge()


def test_uri_is_readable_by_authenticator_apps(browser: Browser, settings: Settings) -> None:
    settings.PUBLIC_URL = "https://auth.example.com:8443"
    given = enrol(browser).json()
    uri = urlsplit(given["otpauthUri"])
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/auth.example.com:ann")
    assert parse_qs(uri.query) == {
        "secret": [given["secret"]],
        "issuer": ["auth.example.com"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    assert len(Device(given["secret"]).key) == 20
    assert given["qrCode"] == segno.make_qr(given["otpauthUri"]).svg_data_uri(scale=4, light="white")


def test_longest_name_fits_into_the_picture(ann: User, settings: Settings) -> None:
    settings.PUBLIC_URL = f"https://{'.'.join(['a' * 63] * 4)[:253]}"
    username.change_username(ann, "\U00020000" * 150)
    browser = Browser()
    browser.login(ann.username)
    given = enrol(browser).json()
    assert len(given["otpauthUri"]) > 2300
    assert given["qrCode"].startswith("data:image/svg+xml")


def test_codes_are_those_of_rfc_6238(ann: User, time_machine: TimeMachineFixture) -> None:
    secret = b"12345678901234567890"
    for moment, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):  # appendix B
        time_machine.move_to(moment, tick=False)
        factor = AuthenticatorApp(user=ann, secret=encryption.encrypt(secret))
        assert codes.proves(factor, code) == moment // 30


def test_setting_up_needs_the_password(browser: Browser) -> None:
    response = enrol(browser, "wrong")
    assert (response.status_code, response.json()) == (400, {"currentPassword": ["That password is wrong."]})
    assert not AuthenticatorApp.objects.exists()
    assert kinds().count("login_failed") == 1


@pytest.mark.parametrize("path", ["", "/confirm", "/recovery-codes", "/remove"])
def test_setting_up_needs_a_session_and_this_site(browser: Browser, path: str) -> None:
    response = browser.post(f"/auth/second-factor{path}", {})
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    response = browser.post(f"/auth/second-factor{path}", {}, browser.access, HTTP_ORIGIN="https://evil.example")
    assert (response.status_code, response.json()["code"]) == (403, "cross_site_request")
    assert browser.get("/auth/second-factor", access="x").status_code == 401


def test_unconfirmed_secret_is_replaced_by_a_new_one(browser: Browser) -> None:
    first, second = (Device(enrol(browser).json()["secret"]) for _ in range(2))
    assert confirm(browser, first.code()).json() == {"code": ["This code is wrong or was already used."]}
    assert confirm(browser, second.code()).status_code == 200
    assert AuthenticatorApp.objects.count() == 1


def test_enabled_second_factor_is_not_replaced(ann_has: Enrolled, browser: Browser) -> None:
    response = enrol(browser)
    assert (response.status_code, response.json()) == (
        400,
        {"non_field_errors": ["Two-factor authentication is already on. Turn it off first."]},
    )
    assert Browser().answer(challenge(), ann_has.device.code()).status_code == 200


def test_wrong_code_enables_nothing(browser: Browser) -> None:
    device = Device(enrol(browser).json()["secret"])
    response = confirm(browser, device.wrong())
    assert (response.status_code, response.json()) == (400, {"code": ["This code is wrong or was already used."]})
    assert not status(browser)["enabled"]
    assert not RecoveryCode.objects.exists()
    assert "second_factor_failed" not in kinds()


@pytest.mark.parametrize("begun", [True, False])
def test_confirming_twice_is_refused(browser: Browser, begun: bool) -> None:
    code = set_up(browser).device.code() if begun else "123456"
    response = confirm(browser, code)
    assert (response.status_code, response.json()) == (
        400,
        {"non_field_errors": ["There is no two-factor setup to confirm. Start again."]},
    )


@pytest.mark.parametrize("act", [renew, remove])
def test_changes_are_refused_before_it_is_enabled(browser: Browser, act: Callable[..., Any]) -> None:
    device = Device(enrol(browser).json()["secret"])
    response = act(browser, device.code())
    assert (response.status_code, response.json()) == (400, {"non_field_errors": ["Two-factor authentication is off."]})


def test_step_stored_by_a_wrong_clock_locks_nobody_out(ann_has: Enrolled) -> None:
    now = int(time()) // 30
    for ahead, status in ((3, 401), (4, 200)):
        AuthenticatorApp.objects.update(last_step=now + ahead)
        phone = Browser()
        assert phone.answer(phone.login().json()["challenge"], ann_has.device.code(1)).status_code == status


def test_confirming_uses_up_the_code(browser: Browser) -> None:
    device = set_up(browser).device
    assert Browser().answer(challenge(), device.code()).json() == WRONG_CODE


def test_setting_up_is_logged_with_the_session_and_the_client(browser: Browser) -> None:
    set_up(browser)
    (event,) = events("second_factor_enabled")
    session = Session.objects.get()
    assert (event.session, event.ip_address) == (session.pk, "127.0.0.1")
    assert "Firefox" in event.user_agent


# Signing in


def test_browser_is_signed_in_by_password_and_code(ann: User, ann_has: Enrolled) -> None:
    phone = Browser()
    refused = phone.login()
    assert refused.status_code == 401
    assert refused.json() == {
        "detail": "Enter the code from your authenticator app, or a recovery code.",
        "code": "second_factor_required",
        "challenge": refused.json()["challenge"],
        "methods": ["otp", "recoveryCode"],
    }
    assert not refused.cookies
    assert Session.objects.count() == 1

    response = phone.answer(refused.json()["challenge"], ann_has.device.code())
    assert response.status_code == 200
    assert response.json() == {
        "accessToken": phone.access,
        "tokenType": "Bearer",
        "expiresIn": 900,
        "user": {"id": ann.pk, "username": "ann", "email": "ann@example.com"},
    }
    assert response.cookies["refreshToken"]["httponly"]
    assert response["Cache-Control"] == "no-store"
    assert claims_of(phone.access)["amr"] == ["pwd", "otp"]
    assert phone.refresh().status_code == 200
    assert claims_of(phone.access)["amr"] == ["pwd", "otp"]
    assert SecurityEvent.objects.filter(kind="login", session=claims_of(phone.access)["sid"]).exists()


def test_app_is_signed_in_by_password_and_code(ann_has: Enrolled) -> None:
    app = App()
    response = app.answer(challenge(app), ann_has.device.code())
    assert (response.status_code, response.json().keys()) == (200, {"access", "refresh"})
    assert claims_of(app.access)["amr"] == ["pwd", "otp"]
    assert app.refresh().status_code == 200


def test_challenge_of_one_transport_is_good_for_the_other(ann_has: Enrolled) -> None:
    assert App().answer(challenge(Browser()), ann_has.device.code()).status_code == 200


@pytest.mark.parametrize("remember", [True, False])
def test_challenge_carries_the_choice_to_remember(ann_has: Enrolled, clock: TimeMachineFixture, remember: bool) -> None:
    phone = Browser()
    refused = phone.login(remember=remember)
    answered = phone.answer(refused.json()["challenge"], ann_has.device.code())
    clock.shift(11)
    for response in (answered, phone.refresh()):
        assert response.status_code == 200
        assert response.cookies["refreshToken"]["max-age"] == (604800 if remember else "")
    session = Session.objects.get(pk=claims_of(phone.access)["sid"])
    assert (session.remembered, session.amr) == (remember, "pwd otp")


def test_challenge_carries_the_name_of_the_device(ann_has: Enrolled) -> None:
    refused = Browser().post("/auth/login", {"username": "ann", "password": PASSWORD, "deviceName": "Ann's phone"})
    phone = Browser()
    assert phone.answer(refused.json()["challenge"], ann_has.device.code()).status_code == 200
    assert Session.objects.get(pk=claims_of(phone.access)["sid"]).device_name == "Ann's phone"


def test_second_step_replaces_the_browsers_session(ann_has: Enrolled, browser: Browser) -> None:
    former = claims_of(browser.access)["sid"]
    assert browser.answer(challenge(), ann_has.device.code()).status_code == 200
    assert Session.objects.get(pk=former).revoked_reason == Reason.REPLACED
    assert browser.refresh().status_code == 200


def test_user_without_a_second_factor_signs_in_by_password(ann_has: Enrolled) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    bob = Browser()
    assert bob.login("bob").status_code == 200
    assert claims_of(bob.access)["amr"] == ["pwd"]


def test_login_without_a_second_factor_costs_no_extra_statement(ann: User, settings: Settings) -> None:
    costs = []
    for hook in (settings.TOKENS_SECOND_FACTOR, None):
        settings.TOKENS_SECOND_FACTOR = hook
        with CaptureQueriesContext(connection) as captured:
            assert Browser().login().status_code == 200
        costs.append(len(captured))
    assert costs[0] == costs[1]


def test_thief_with_the_password_gets_no_further(ann_has: Enrolled, browser: Browser) -> None:
    thief = Browser()
    stolen = challenge(thief)
    assert thief.answer(stolen, ann_has.device.wrong()).json() == WRONG_CODE
    assert (thief.cookie, thief.access) == ("", "")
    assert Session.objects.count() == 1
    (event,) = events("second_factor_failed")
    assert (event.ip_address, event.session) == ("127.0.0.1", None)
    log = browser.get("/api/security-events/").json()["results"]
    assert log[0]["kind"] == "second_factor_failed"


def test_thief_who_reads_the_mail_as_well_gets_no_further(
    ann_has: Enrolled, browser: Browser, mailoutbox: list[EmailMessage]
) -> None:
    thief = Browser()
    before = challenge(thief)
    thief.post("/auth/password/reset", {"email": "ann@example.com"})
    outbox.deliver()
    (link,) = [link_in(mail) for mail in mailoutbox if "reset-password" in str(mail.body)]
    assert thief.post("/auth/password/reset/confirm", {**link, "newPassword": NEW_PASSWORD}).status_code == 204
    assert not thief.cookie
    after = challenge(thief, NEW_PASSWORD)
    assert thief.answer(after, ann_has.device.wrong()).json() == WRONG_CODE
    assert thief.answer(before, ann_has.device.code()).json() == WRONG_CHALLENGE
    assert not Session.objects.filter(revoked_at=None).exists()
    assert Browser().answer(after, ann_has.device.code()).status_code == 200


@pytest.mark.parametrize("state", ["unknown", "wrong", "deactivated"])
def test_login_reveals_the_second_factor_only_after_a_right_password(ann_has: Enrolled, state: str) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    User.objects.update(is_active=state != "deactivated")
    password = PASSWORD if state == "deactivated" else "wrong"
    name = "nobody" if state == "unknown" else "ann"
    answers = [Browser().login(name, password), Browser().login("bob", password)]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "invalid_credentials"
    assert answers[0].headers == answers[1].headers


# What a code is good for


@pytest.mark.parametrize(("steps", "expected"), [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)])
def test_code_of_the_previous_or_next_step_is_valid(ann_has: Enrolled, steps: int, expected: int) -> None:
    assert Browser().answer(challenge(), ann_has.device.code(steps)).status_code == expected


@pytest.mark.parametrize(("seconds", "expected"), [(59, 200), (60, 401)])
def test_code_is_valid_to_the_end_of_the_next_step(
    ann_has: Enrolled, clock: TimeMachineFixture, seconds: int, expected: int
) -> None:
    code = ann_has.device.code()
    clock.shift(seconds)
    assert Browser().answer(challenge(), code).status_code == expected


@pytest.mark.parametrize(("seconds", "expected"), [(31, 401), (30, 200)])
def test_code_is_valid_from_the_start_of_the_previous_step(
    ann_has: Enrolled, clock: TimeMachineFixture, seconds: int, expected: int
) -> None:
    code = ann_has.device.code(2)
    clock.shift(60 - seconds)
    assert Browser().answer(challenge(), code).status_code == expected


def test_code_works_once(ann_has: Enrolled) -> None:
    code, one, another = ann_has.device.code(), challenge(), challenge()
    assert Browser().answer(one, code).status_code == 200
    assert Browser().answer(challenge(), code).json() == WRONG_CODE
    assert App().answer(another, code).json() == WRONG_CODE
    assert Session.objects.count() == 2


def test_code_that_two_steps_share_works_once(ann_has: Enrolled, clock: TimeMachineFixture) -> None:
    clock.move_to("2030-01-01T12:00Z")
    key = b"00000000000000518927"
    AuthenticatorApp.objects.update(secret=encryption.encrypt(key), last_step=0)
    device = Device(b32encode(key).decode())
    code = device.code()
    assert device.code(1) == code
    assert Browser().answer(challenge(), code).status_code == 200
    for seconds in (0, 30, 30):
        clock.shift(seconds)
        assert Browser().answer(challenge(), code).json() == WRONG_CODE


def test_code_older_than_the_last_used_one_is_refused(ann_has: Enrolled) -> None:
    assert Browser().answer(challenge(), ann_has.device.code()).status_code == 200
    assert Browser().answer(challenge(), ann_has.device.code(-1)).json() == WRONG_CODE
    assert Browser().answer(challenge(), ann_has.device.code(1)).status_code == 200


def test_challenge_can_be_answered_again_after_a_wrong_code(ann_has: Enrolled) -> None:
    given = challenge()
    assert Browser().answer(given, ann_has.device.wrong()).json() == WRONG_CODE
    assert Browser().answer(given, ann_has.device.code()).status_code == 200


def test_challenge_opens_one_session_and_uses_one_code(ann_has: Enrolled) -> None:
    given, count = challenge(), Session.objects.count()
    assert Browser().answer(given, ann_has.device.code()).status_code == 200
    for client, code in ((Browser(), ann_has.device.code(1)), (App(), ann_has.codes[0])):
        assert client.answer(given, code).json() == WRONG_CHALLENGE
    assert Session.objects.count() == count + 1
    assert Browser().answer(challenge(), ann_has.codes[0]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_challenge_opens_one_session_under_parallel_requests(ann_has: Enrolled) -> None:
    given, count = challenge(), Session.objects.count()
    answers = in_parallel(
        lambda: Browser().answer(given, ann_has.device.code()),
        *[lambda code=code: App().answer(given, code) for code in ann_has.codes[:5]],
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 401} == {"invalid_challenge"}
    assert Session.objects.count() == count + 1


def test_challenge_expires_before_the_session_it_opened(
    ann_has: Enrolled, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_SHORT_SESSION_LIFETIME = timedelta(seconds=60)
    given = challenge()
    assert Browser().answer(given, ann_has.device.code()).status_code == 200
    Session.objects.all().delete()  # as it is once it has expired
    clock.shift(61)
    assert Browser().answer(given, ann_has.codes[0]).json() == WRONG_CHALLENGE


@pytest.mark.parametrize(
    "spelling",
    ["{0} {1}", " {0}-{1}\t", "{0}\u00a0{1}", "{0}\u2013{1}", "{0} \u2212 {1}", "{0}\u200b{1}", "{0}\ufe63{1}"],
)
def test_code_may_be_typed_in_groups(ann_has: Enrolled, spelling: str) -> None:
    code = ann_has.device.code()
    assert Browser().answer(challenge(), spelling.format(code[:3], code[3:])).status_code == 200


@pytest.mark.parametrize(
    "zero", ["\N{FULLWIDTH DIGIT ZERO}", "\N{ARABIC-INDIC DIGIT ZERO}", "\N{DEVANAGARI DIGIT ZERO}"]
)
def test_code_may_be_typed_in_the_digits_of_any_script(ann_has: Enrolled, zero: str) -> None:
    typed = "".join(chr(ord(zero) + int(digit)) for digit in ann_has.device.code())
    assert Browser().answer(challenge(), typed).status_code == 200


@pytest.mark.parametrize("code", [123456, 123456.5, ["123456"], True])
def test_code_of_another_type_is_a_field_error(ann_has: Enrolled, code: Any) -> None:
    for client in (Browser(), App()):
        response = client.answer(challenge(), code)
        assert (response.status_code, response.json()) == (400, {"code": ["Not a valid string."]})


@pytest.mark.parametrize("code", ["\N{SUPERSCRIPT ONE}23456", "12345", "1234567", "abc", "0x1e240", "123456.0", "-"])
def test_malformed_code_is_refused(ann_has: Enrolled, code: str) -> None:
    assert Browser().answer(challenge(), code).json() == WRONG_CODE


@pytest.mark.parametrize("path", ["/auth/login/second-factor", "/api/token/second-factor/"])
@pytest.mark.parametrize("field", ["challenge", "code"])
def test_no_value_is_a_server_error(ann_has: Enrolled, path: str, field: str) -> None:
    for value in MALFORMED:
        # Written by hand, since DRF's client can't write a lone surrogate.
        body = json.dumps({"challenge": challenge(), "code": ann_has.device.wrong(), field: value})
        response: Any = Browser().http.post(path, body, content_type="application/json")
        assert (response.status_code, response.json().keys()) == (400, {field}), ascii(value)[:20]


@pytest.mark.parametrize("path", ["/auth/login/second-factor", "/api/token/second-factor/"])
def test_both_fields_are_needed(db: None, path: str) -> None:
    assert Browser().post(path, {}).json() == {"challenge": ["This field is required."]}
    answer = Browser().post(path, {"challenge": "x"}).json()
    assert answer == {"code": ["Send either a code or a credential."]}


@pytest.mark.django_db(transaction=True)
def test_code_works_once_under_parallel_requests(ann_has: Enrolled) -> None:
    code, given = ann_has.device.code(), challenge()
    answers = in_parallel(*[lambda: Browser().answer(given, code), lambda: App().answer(given, code)] * (THREADS // 2))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * (THREADS - 1)
    assert Session.objects.count() == 2


# The challenge


@pytest.mark.parametrize(("seconds", "expected"), [(300, 200), (301, 401)])
def test_challenge_is_valid_for_five_minutes(
    ann_has: Enrolled, clock: TimeMachineFixture, seconds: int, expected: int
) -> None:
    given = challenge()
    clock.shift(seconds)
    response = Browser().answer(given, ann_has.device.code())
    assert response.status_code == expected
    assert expected == 200 or response.json() == WRONG_CHALLENGE


@pytest.mark.parametrize(
    "change",
    [
        lambda: User.objects.update(password=make_password(NEW_PASSWORD)),
        lambda: User.objects.update(is_active=False),
        lambda: User.objects.all().delete(),
        lambda: second_factor.take_away(User.objects.get()),
    ],
    ids=["password", "deactivated", "deleted", "taken away"],
)
def test_challenge_ends_when_its_account_changes(ann_has: Enrolled, change: Callable[[], Any]) -> None:
    given = challenge()
    change()
    assert Browser().answer(given, ann_has.device.code()).json() == WRONG_CHALLENGE
    assert Session.objects.filter(revoked_at=None).count() <= 1


def test_code_of_a_deactivated_user_is_not_used_up(ann_has: Enrolled) -> None:
    given = challenge()
    User.objects.update(is_active=False)
    assert Browser().answer(given, ann_has.device.code()).json() == WRONG_CHALLENGE
    User.objects.update(is_active=True)
    assert Browser().answer(given, ann_has.device.code()).status_code == 200


def test_challenge_can_be_answered_by_a_factor_added_later(ann_has: Enrolled, browser: Browser) -> None:
    given = challenge()
    assert remove(browser, ann_has.device.code()).status_code == 204
    device = set_up(browser).device
    assert Browser().answer(given, device.code(1)).status_code == 200


def test_user_deactivated_at_that_moment_is_not_signed_in(ann_has: Enrolled) -> None:
    given = challenge()
    with just_before(TRANSACTION, lambda: User.objects.update(is_active=False)):
        response = Browser().answer(given, ann_has.device.code())
    assert (response.status_code, response.json()) == (401, WRONG_CHALLENGE)
    assert Session.objects.count() == 1


def test_forged_challenge_is_refused(ann: User, ann_has: Enrolled) -> None:
    given = challenge()
    payload, rest = given.split(":", 1)
    content = signing.loads(given, salt=signing_in.SALT)
    forged = [
        f"{payload[:-1]}x:{rest}",
        given[:-1],
        "",
        "x",
        ":::",
        signing.dumps(content),
        signing.dumps(content, key="x" * 50, salt=signing_in.SALT),
    ]
    for text in filter(None, forged):
        response = Browser().answer(text, ann_has.device.code())
        assert (response.status_code, response.json()) == (401, WRONG_CHALLENGE)


def test_challenge_contains_neither_secret_nor_password(ann: User, ann_has: Enrolled) -> None:
    content = signing.loads(challenge(), salt=signing_in.SALT)
    fingerprint = content.pop("password")
    assert UUID(content.pop("sid")).version == 7
    assert content.pop("at") == 1893499500000000
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    assert fingerprint not in (ann.password, ann.get_session_auth_hash())
    assert content == {"sub": str(ann.pk), "terms": {"remembered": True, "device_name": "", "jkt": "", "extras": {}}}


# Limits


def answers_of(codes: list[str], client: type[Browser | App] = Browser) -> list[int]:
    """Answer each code with a challenge of its own."""
    return [client().answer(challenge(), code).status_code for code in codes]


def test_tries_are_counted_over_challenges_transports_and_kinds_of_code(
    ann_has: Enrolled, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_LIMITS = {"code": (3, 300.0)}
    wrong = ann_has.device.wrong()
    assert answers_of([wrong]) + answers_of([wrong], App) + answers_of(["aaaaaa-aaaaaa-aaaaaa-aaaaaa"]) == [401] * 3
    for code in (ann_has.device.code(), ann_has.codes[0]):
        response = Browser().answer(challenge(), code)
        assert (response.status_code, response.json()["code"], response["Retry-After"]) == (429, "throttled", "300")
    assert Session.objects.count() == 1
    clock.shift(299)
    assert answers_of([wrong]) == [429]
    clock.shift(1)
    assert answers_of([ann_has.device.code(), wrong, wrong, wrong, wrong]) == [200, 401, 401, 401, 429]


def answer_from(address: str, code: str) -> int:
    return int(Browser().answer(challenge(), code, REMOTE_ADDR=address).status_code)


def test_tries_from_elsewhere_do_not_lock_the_owner_out(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    wrong = ann_has.device.wrong()
    assert [answer_from("192.0.2.1", wrong) for _ in range(3)] == [401, 401, 429]
    assert answer_from("192.0.2.2", ann_has.device.code()) == 200


def test_tries_from_everywhere_are_counted_together(
    ann_has: Enrolled, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_LIMITS = {"code_anywhere": (2, 300.0)}
    wrong = ann_has.device.wrong()
    assert [answer_from(f"192.0.2.{number}", wrong) for number in range(1, 4)] == [401, 401, 429]
    response = Browser().answer(challenge(), ann_has.device.code(), REMOTE_ADDR="192.0.2.9")
    assert (response.status_code, response["Retry-After"]) == (429, "300")
    assert answer_from("127.0.0.1", ann_has.device.code()) == 200  # where ann has signed in before


def test_ipv6_network_shares_its_tries(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    wrong = ann_has.device.wrong()
    assert [answer_from(f"2001:db8::{number}", wrong) for number in range(1, 4)] == [401, 401, 429]
    assert answer_from("2001:db8:0:1::1", wrong) == 401


def test_owner_gets_one_mail_an_hour_about_guessed_codes(
    ann_has: Enrolled, settings: Settings, clock: TimeMachineFixture, mailoutbox: list[EmailMessage]
) -> None:
    settings.TOKENS_LIMITS, settings.NOTICES = {"code": (3, 300.0)}, ["second_factor_guessed"]

    def guess(times: int) -> list[str]:
        for _ in range(times):
            answer_from("192.0.2.7", ann_has.device.wrong())
        outbox.deliver()
        return [str(mail.subject) for mail in mailoutbox]

    assert guess(2) == []
    assert guess(1) == ["Someone with your password is guessing your two-factor codes"]
    (mail,) = mailoutbox
    assert mail.to == ["ann@example.com"]
    assert "Firefox on Linux, from 192.0.2.7" in str(mail.body)
    (event,) = events("second_factor_guessed")
    assert (event.ip_address, event.session) == ("192.0.2.7", None)
    assert len(guess(2)) == 1
    clock.shift(3599)
    assert len(guess(4)) == 1
    clock.shift(301)
    assert len(guess(1)) == 2


def test_unlimited_guesses_send_no_mail(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    for _ in range(11):
        answer_from("192.0.2.7", ann_has.device.wrong())
    assert not events("second_factor_guessed")


def test_limit_is_ten_by_default(ann_has: Enrolled) -> None:
    assert answers_of([ann_has.device.wrong()] * 11) == [401] * 10 + [429]


def test_each_account_has_its_own_limit(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (1, 300.0)}
    assert answers_of([ann_has.device.wrong()] * 2) == [401, 429]
    User.objects.create_user("bob", password=PASSWORD)
    bob = Browser()
    bob.login("bob")
    assert set_up(bob).codes


def test_tries_of_signed_in_users_count_too(ann_has: Enrolled, browser: Browser, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    wrong = ann_has.device.wrong()
    assert [act(browser, wrong).status_code for act in (renew, remove, renew)] == [400, 400, 429]
    assert answers_of([ann_has.device.code()]) == [429]
    assert len(events("second_factor_failed")) == 2


def test_tries_to_confirm_count_too(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    device = Device(enrol(browser).json()["secret"])
    codes = [device.wrong(), device.wrong(), device.code()]
    assert [confirm(browser, code).status_code for code in codes] == [400, 400, 429]
    assert not status(browser)["enabled"]


@pytest.mark.django_db(transaction=True)
def test_parallel_tries_are_counted_exactly(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (5, 300.0)}
    given, wrong = challenge(), ann_has.device.wrong()
    answers = in_parallel(*[lambda: Browser().answer(given, wrong), lambda: App().answer(given, wrong)] * 8)
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 11
    assert len(events("second_factor_failed")) == 5


# Recovery codes


def test_recovery_code_works_once(ann_has: Enrolled, browser: Browser) -> None:
    phone = Browser()
    assert phone.answer(challenge(), ann_has.codes[3]).status_code == 200
    assert claims_of(phone.access)["amr"] == ["pwd", "mfa"]
    assert Browser().answer(challenge(), ann_has.codes[3]).json() == WRONG_CODE
    assert status(browser)["recoveryCodesLeft"] == 9
    (event,) = events("recovery_code_used")
    assert event.ip_address == "127.0.0.1"
    assert Browser().answer(challenge(), ann_has.codes[4]).status_code == 200


@pytest.mark.parametrize("spell", [str.upper, lambda code: code.replace("-", ""), lambda code: code.replace("-", " ")])
def test_recovery_code_may_be_typed_in_any_form(ann_has: Enrolled, spell: Callable[[str], str]) -> None:
    assert Browser().answer(challenge(), spell(ann_has.codes[0])).status_code == 200


def test_recovery_code_of_another_account_is_refused(ann_has: Enrolled) -> None:
    User.objects.create_user("bob", password=PASSWORD)
    bob = Browser()
    bob.login("bob")
    assert Browser().answer(challenge(), set_up(bob).codes[0]).json() == WRONG_CODE


@pytest.mark.django_db(transaction=True)
def test_recovery_code_works_once_under_parallel_requests(ann_has: Enrolled) -> None:
    given = challenge()
    answers = in_parallel(*[lambda: Browser().answer(given, ann_has.codes[0])] * THREADS)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * (THREADS - 1)
    assert len(events("recovery_code_used")) == 1


def test_new_recovery_codes_replace_the_old_ones(ann_has: Enrolled, browser: Browser) -> None:
    response = renew(browser, ann_has.device.code())
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    codes = response.json()["recoveryCodes"]
    assert len({*codes, *ann_has.codes}) == 20
    assert answers_of([ann_has.codes[0], codes[0]]) == [401, 200]
    (event,) = events("recovery_codes_renewed")
    assert str(event.session) == claims_of(browser.access)["sid"]


@pytest.mark.parametrize("act", [renew, remove])
def test_password_is_checked_before_the_code_is_used_up(
    ann_has: Enrolled, browser: Browser, act: Callable[..., Any]
) -> None:
    response = act(browser, ann_has.device.code(), "wrong")
    assert (response.status_code, response.json()) == (400, {"currentPassword": ["That password is wrong."]})
    assert Browser().answer(challenge(), ann_has.device.code()).status_code == 200
    assert answers_of([ann_has.codes[0]]) == [200]


@pytest.mark.parametrize("act", [renew, remove])
def test_wrong_or_used_code_changes_nothing(ann_has: Enrolled, browser: Browser, act: Callable[..., Any]) -> None:
    used = ann_has.device.code()
    assert Browser().answer(challenge(), used).status_code == 200
    for code in (used, ann_has.device.wrong()):
        response = act(browser, code)
        assert (response.status_code, response.json()) == (400, {"code": ["This code is wrong or was already used."]})
    assert status(browser)["recoveryCodesLeft"] == 10
    assert answers_of([ann_has.codes[0]]) == [200]


# Taking it away


@pytest.mark.parametrize("kind", ["otp", "recovery"])
def test_owner_removes_it_by_password_and_code(ann_has: Enrolled, browser: Browser, kind: str) -> None:
    response = remove(browser, ann_has.device.code() if kind == "otp" else ann_has.codes[0])
    assert (response.status_code, response.content) == (204, b"")
    assert status(browser) == {"enabled": False, "enabledAt": None, "recoveryCodesLeft": 0, "passkeys": 0}
    assert not AuthenticatorApp.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert Browser().login().status_code == 200
    (event,) = events("second_factor_removed")
    assert (str(event.session), event.ip_address) == (claims_of(browser.access)["sid"], "127.0.0.1")


def test_deleting_the_account_deletes_its_second_factor(ann: User, ann_has: Enrolled) -> None:
    ann.delete()
    assert not AuthenticatorApp.objects.exists()
    assert not RecoveryCode.objects.exists()


def test_stale_save_of_the_user_leaves_the_factor_enabled(ann: User, ann_has: Enrolled) -> None:
    ann.save()  # as it was before anything was set up
    assert challenge()


# In a chosen order


def errors_of(act: Callable[[], Any]) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        act()
    error = refused.value
    return error.message_dict if hasattr(error, "error_dict") else {"": error.messages}


def session_of(browser: Browser) -> Session:
    session: Session = Session.objects.select_related("user").get(pk=claims_of(browser.access)["sid"])
    return session


@pytest.mark.parametrize("act", [second_factor.renew_recovery_codes, second_factor.remove])
def test_nothing_changes_if_the_password_changed_meanwhile(
    ann_has: Enrolled, browser: Browser, act: Callable[..., Any]
) -> None:
    session, code = session_of(browser), ann_has.device.code()
    with just_before(TRANSACTION, lambda: User.objects.update(password="!")):
        errors = errors_of(lambda: act(session, PASSWORD, {"code": code}))
    assert errors == {"current_password": ["That password is wrong."]}
    assert RecoveryCode.objects.count() == 10


@pytest.mark.parametrize("act", [second_factor.renew_recovery_codes, second_factor.remove])
def test_second_factor_removed_meanwhile_is_not_found(
    ann: User, ann_has: Enrolled, browser: Browser, act: Callable[..., Any]
) -> None:
    session, code = session_of(browser), ann_has.device.code()
    with just_before(TRANSACTION, lambda: second_factor.take_away(ann)):
        errors = errors_of(lambda: act(session, PASSWORD, {"code": code}))
    assert errors == {"": ["Two-factor authentication is off."]}
    assert len(events("second_factor_removed")) == 1


@pytest.mark.django_db(transaction=True)
def test_wrong_code_of_a_just_deleted_user_is_just_wrong(ann: User, ann_has: Enrolled) -> None:
    challenge = Browser().login().json()["challenge"]
    with just_before('INSERT INTO "latchkey_securityevent"', lambda: User.objects.get().delete()):
        response = Browser().answer(challenge, "000000")
    assert (response.status_code, response.json()["code"]) == (401, "invalid_code")
    assert not events("second_factor_failed")


def test_no_secret_is_issued_if_the_password_changed_meanwhile(browser: Browser) -> None:
    session = session_of(browser)
    with just_before(TRANSACTION, lambda: User.objects.update(password="!")):
        errors = errors_of(lambda: second_factor.enrol(session, PASSWORD))
    assert errors == {"current_password": ["That password is wrong."]}
    assert not AuthenticatorApp.objects.exists()


def test_secret_replaced_meanwhile_is_not_confirmed(browser: Browser) -> None:
    device, session = Device(enrol(browser).json()["secret"]), session_of(browser)
    code = device.code()
    with just_before(TRANSACTION, lambda: second_factor.enrol(session, PASSWORD)):
        errors = errors_of(lambda: second_factor.enable(session, code))
    assert errors == {"": ["There is no two-factor setup to confirm. Start again."]}
    assert AuthenticatorApp.objects.get().enabled_at is None
    assert not RecoveryCode.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_confirmation_waits_for_a_running_enrolment(browser: Browser) -> None:
    session, code = session_of(browser), Device(enrol(browser).json()["secret"]).code()
    confirming: list[Future[Any]] = []

    def begin_to_confirm() -> None:
        confirming.append(other.submit(in_parallel, lambda: confirm(browser, code)))
        wait(confirming, timeout=0.5)

    with ThreadPoolExecutor(1) as other:
        with just_before("DELETE", begin_to_confirm):
            second_factor.enrol(session, PASSWORD)
        (response,) = confirming[0].result(60)
    assert response.status_code == 400
    assert AuthenticatorApp.objects.get().enabled_at is None
    assert not events("second_factor_enabled")


@pytest.mark.django_db(transaction=True)
def test_parallel_enrolments_leave_one_secret(browser: Browser) -> None:
    answers = in_parallel(*[lambda: enrol(browser)] * THREADS)
    assert [answer.status_code for answer in answers] == [200] * THREADS
    assert AuthenticatorApp.objects.count() == 1
    good = [confirm(browser, Device(answer.json()["secret"]).code()).status_code for answer in answers]
    assert sorted(good) == [200] + [400] * (THREADS - 1)


@pytest.mark.django_db(transaction=True)
def test_parallel_confirmations_give_recovery_codes_once(browser: Browser) -> None:
    code = Device(enrol(browser).json()["secret"]).code()
    answers = in_parallel(*[lambda: confirm(browser, code)] * THREADS)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (THREADS - 1)
    assert RecoveryCode.objects.count() == 10
    assert len(events("second_factor_enabled")) == 1


# What goes on


@pytest.mark.parametrize("wanted", [True, False])
def test_other_sessions_end_with_a_confirmation_on_request(browser: Browser, wanted: bool) -> None:
    elsewhere = Browser()
    elsewhere.login()
    code = Device(enrol(browser).json()["secret"]).code()
    body = {"code": code, "endOtherSessions": wanted}
    assert browser.post("/auth/second-factor/confirm", body, browser.access).status_code == 200
    assert elsewhere.refresh().status_code == (401 if wanted else 200)
    assert browser.refresh().status_code == 200
    ended = Session.objects.get(pk=claims_of(elsewhere.access)["sid"]).revoked_reason
    assert ended == (Reason.REVOKED if wanted else "")


@pytest.mark.parametrize("wanted", [True, False])
def test_other_sessions_end_with_a_removal_on_request(ann_has: Enrolled, browser: Browser, wanted: bool) -> None:
    elsewhere = Browser()
    elsewhere.answer(challenge(), ann_has.codes[0])
    body = {"currentPassword": PASSWORD, "code": ann_has.device.code(), "endOtherSessions": wanted}
    assert browser.post("/auth/second-factor/remove", body, browser.access).status_code == 204
    assert elsewhere.refresh().status_code == (401 if wanted else 200)
    assert browser.refresh().status_code == 200


@pytest.mark.parametrize("path", ["confirm", "remove"])
@pytest.mark.parametrize("value", ["true", 1, None, []])
def test_malformed_switch_ends_and_changes_nothing(ann_has: Enrolled, browser: Browser, path: str, value: Any) -> None:
    body = {"currentPassword": PASSWORD, "code": ann_has.device.code(), "endOtherSessions": value}
    response = browser.post(f"/auth/second-factor/{path}", body, browser.access)
    assert (response.status_code, response.json().keys()) == (400, {"endOtherSessions"})
    assert status(browser)["enabled"]


def test_refused_confirmation_ends_no_session(browser: Browser) -> None:
    elsewhere = Browser()
    elsewhere.login()
    wrong = Device(enrol(browser).json()["secret"]).wrong()
    body = {"code": wrong, "endOtherSessions": True}
    assert browser.post("/auth/second-factor/confirm", body, browser.access).status_code == 400
    assert elsewhere.refresh().status_code == 200


# Addresses that nobody has verified

UNVERIFIED = {"detail": "Verify your email address first.", "code": "email_not_verified"}


@pytest.mark.parametrize("path", ["", "/confirm"])
def test_second_factor_needs_a_verified_address(browser: Browser, path: str) -> None:
    code = Device(enrol(browser).json()["secret"]).code()
    User.objects.update(email_verified=False)
    body = {"currentPassword": PASSWORD, "code": code}
    response = browser.post(f"/auth/second-factor{path}", body, browser.access)
    assert (response.status_code, response.json()) == (403, UNVERIFIED)
    assert not status(browser)["enabled"]
    User.objects.update(email_verified=True)
    assert confirm(browser, code).status_code == 200


def test_account_without_an_address_can_have_a_second_factor(browser: Browser) -> None:
    User.objects.update(email="", email_key=None, email_verified=False)
    given = browser.post("/auth/second-factor", {"currentPassword": PASSWORD}, browser.access)
    assert confirm(browser, Device(given.json()["secret"]).code()).status_code == 200


def test_first_reset_that_proves_the_address_removes_a_squatters_factor(
    ann_has: Enrolled, browser: Browser, mailoutbox: list[EmailMessage]
) -> None:
    User.objects.update(email_verified=False)
    outbox.deliver()
    mailoutbox.clear()
    owner = Browser()
    owner.post("/auth/password/reset", {"email": "ann@example.com"})
    outbox.deliver()
    (mail,) = mailoutbox
    reset = owner.post("/auth/password/reset/confirm", {**link_in(mail), "newPassword": NEW_PASSWORD})
    assert reset.status_code == 204
    assert owner.login(password=NEW_PASSWORD).status_code == 200
    assert claims_of(owner.access)["amr"] == ["pwd"]
    assert not AuthenticatorApp.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert len(events("second_factor_removed")) == 1
    assert browser.refresh().status_code == 401


# Other calls that require a code


def test_deleting_the_account_needs_a_code(ann_has: Enrolled, browser: Browser) -> None:
    def delete(**code: Any) -> Any:
        return browser.post("/auth/account/delete", {"currentPassword": PASSWORD, **code}, browser.access)

    missing, wrong = delete(), delete(code=ann_has.device.wrong())
    assert (missing.status_code, missing.json()) == (
        400,
        {"code": ["Enter the code from your authenticator app, or a recovery code."]},
    )
    assert (wrong.status_code, wrong.json()) == (400, {"code": ["This code is wrong or was already used."]})
    assert User.objects.exists()
    assert delete(code=ann_has.device.code()).status_code == 204
    assert not User.objects.exists()


def test_changing_the_address_needs_a_code(ann_has: Enrolled, browser: Browser) -> None:
    def change(**body: Any) -> Any:
        headers: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {browser.access}"}
        return browser.http.patch("/api/me/", {"email": "new@example.com", **body}, format="json", **headers)

    assert change(code=ann_has.device.code()).json().keys() == {"currentPassword"}
    missing = change(currentPassword=PASSWORD)
    assert (missing.status_code, missing.json()) == (
        400,
        {"code": ["Enter the code from your authenticator app, or a recovery code."]},
    )
    wrong = change(currentPassword=PASSWORD, code=ann_has.device.wrong())
    assert (wrong.status_code, wrong.json()) == (400, {"code": ["This code is wrong or was already used."]})
    assert User.objects.get().email == "ann@example.com"
    assert len(events("second_factor_failed")) == 1
    assert change(currentPassword=PASSWORD, code=ann_has.device.code()).status_code == 200
    assert User.objects.get().email == "new@example.com"


def test_changing_only_the_name_needs_no_code(ann_has: Enrolled, browser: Browser) -> None:
    headers: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {browser.access}"}
    for password, expected in (("wrong", 400), (PASSWORD, 200)):
        body = {"username": "bob", "currentPassword": password}
        assert browser.http.patch("/api/me/", body, format="json", **headers).status_code == expected


def test_sessions_continue_when_it_is_enabled_or_removed(ann_has: Enrolled, browser: Browser) -> None:
    elsewhere = Browser()
    elsewhere.answer(challenge(), ann_has.device.code())
    assert remove(browser, ann_has.device.code(1)).status_code == 204
    assert (elsewhere.refresh().status_code, browser.refresh().status_code) == (200, 200)
    assert claims_of(elsewhere.access)["amr"] == ["pwd", "otp"]
    assert not Session.objects.filter(revoked_reason=Reason.PASSWORD).exists()


def test_challenge_survives_key_rotation(ann_has: Enrolled, settings: Settings) -> None:
    given = challenge()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key " * 5, [settings.SECRET_KEY]
    assert Browser().answer(given, ann_has.device.code()).status_code == 200
