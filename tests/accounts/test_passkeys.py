"""Passkeys, as stories: ann has a browser with an authenticator, bob another, and a thief has ann's password."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.factors import managing_passkeys, second_factor
from accounts.models import Passkey, User
from tests.accounts.authenticator import ALGORITHMS, BE, BS, UP, UV, Authenticator, b64, unb64
from tests.accounts.devices import Device, challenge, confirm, enrol
from tests.clients import PASSWORD, App, Browser, claims_of
from tests.racing import in_parallel, just_before
from tokens.models import SecurityEvent, Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

TICKS = True  # two challenges of one instant can't both be answered

INVALID = {"detail": "That passkey did not work. Try again, or sign in another way.", "code": "invalid_passkey"}
UNKNOWN = {
    "detail": "No account here uses this passkey. It may have been removed.",
    "code": "unknown_passkey",
}


@pytest.fixture(autouse=True)
def party(settings: Settings) -> None:
    settings.PASSKEY_RP_ID, settings.PASSKEY_RP_NAME = "localhost", "Latchkey"
    settings.PASSKEY_ORIGINS = ["http://localhost:8000"]


@pytest.fixture
def ann(ann: User) -> User:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    ann.refresh_from_db()
    return ann


def options(browser: Browser) -> Any:
    return browser.post("/auth/passkeys/options", access=browser.access)


def add(browser: Browser, device: Authenticator, *, how: dict[str, Any] | None = None, **body: Any) -> Any:
    asked = options(browser).json()
    credential = device.create(asked["publicKey"], **(how or {}))
    body = {"challenge": asked["challenge"], "credential": credential, **body}
    return browser.post("/auth/passkeys", body, browser.access)


def answered(device: Authenticator, **how: Any) -> dict[str, Any]:
    """Return the body of a login by passkey."""
    asked = Browser().post("/auth/login/passkey/options").json()
    return {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"], **how)}


def enter(device: Authenticator, browser: Browser | None = None, body: Any = None, **how: Any) -> Any:
    """Sign in with nothing but the passkey."""
    browser = browser or Browser()
    return browser._keep(browser.post("/auth/login/passkey", body or answered(device, **how)))


def second_step(asked: Any, device: Authenticator, browser: Browser | None = None, **how: Any) -> Any:
    browser = browser or Browser()
    body = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"], **how)}
    return browser._keep(browser.post("/auth/login/second-factor", body))


def asked_for(client: Browser | App | None = None) -> Any:
    """Send the password alone, and return the response."""
    response = (client or Browser()).login()
    assert (response.status_code, response.json()["code"]) == (401, "second_factor_required")
    return response.json()


def kinds() -> list[str]:
    return list(SecurityEvent.objects.order_by("created_at", "id").values_list("kind", flat=True))


@pytest.fixture
def device(browser: Browser) -> Authenticator:
    """The authenticator of ann's browser, with a passkey."""
    device = Authenticator()
    assert add(browser, device).status_code == 201
    return device


# Adding one


def test_first_passkey_comes_with_recovery_codes(browser: Browser, ann: User) -> None:
    device = Authenticator()
    response = add(browser, device, name="My phone")
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    body = response.json()
    assert len(body.pop("recoveryCodes")) == 10
    passkey = Passkey.objects.get()
    assert body == {
        "id": str(passkey.pk),
        "name": "My phone",
        "createdAt": passkey.created_at.isoformat().replace("+00:00", "Z"),
        "lastUsedAt": None,
        "backedUp": True,
        "synced": True,
        "transports": ["hybrid", "internal"],
    }
    assert (passkey.user, bytes(passkey.credential_id)) == (ann, device.passkeys[0].credential_id)
    assert kinds()[-1] == "passkey_added"
    assert browser.get("/auth/second-factor").json() == {
        "enabled": True,
        "enabledAt": body["createdAt"],
        "recoveryCodesLeft": 10,
        "passkeys": 1,
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_passkey_of_each_algorithm_signs_in(browser: Browser, algorithm: int) -> None:
    device = Authenticator(counts=True)
    assert add(browser, device, how={"algorithm": algorithm}).status_code == 201
    assert enter(device).status_code == 200
    assert enter(device).status_code == 200


def test_options_identify_the_user_by_random_bytes_and_exclude_existing_passkeys(
    browser: Browser, device: Authenticator
) -> None:
    enter(device, browser)
    asked = options(browser).json()["publicKey"]
    assert asked["user"]["name"] == "ann"
    assert len(unb64(asked["user"]["id"])) == 32
    assert unb64(asked["user"]["id"]) == bytes(User.objects.get().passkey_handle) == device.passkeys[0].user_handle
    assert [unb64(known["id"]) for known in asked["excludeCredentials"]] == [device.passkeys[0].credential_id]


def test_second_passkey_comes_without_codes_and_with_a_name(browser: Browser, device: Authenticator) -> None:
    enter(device, browser)
    body = add(browser, Authenticator()).json()
    assert "recoveryCodes" not in body
    assert body["name"] == "Passkey 2"


def test_passkey_beside_codes_keeps_the_recovery_codes(browser: Browser, ann: User) -> None:
    app = Device(enrol(browser).json()["secret"])
    assert len(confirm(browser, app.code()).json()["recoveryCodes"]) == 10
    browser.reauthenticate(code=app.code(1))
    assert "recoveryCodes" not in add(browser, Authenticator()).json()
    assert ann.recovery_codes.count() == 10


def test_codes_beside_a_passkey_come_without_recovery_codes(browser: Browser, device: Authenticator) -> None:
    app = Device(enrol(browser).json()["secret"])
    response = confirm(browser, app.code())
    assert (response.status_code, response.json()) == (200, {})
    assert asked_for()["methods"] == ["passkey", "otp", "recoveryCode"]


def test_adding_a_passkey_needs_a_recent_sign_in(browser: Browser, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    response = options(browser)
    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_required")


def test_adding_a_passkey_needs_a_verified_address(browser: Browser, ann: User) -> None:
    User.objects.update(email_verified=False)
    response = options(browser)
    assert (response.status_code, response.json()["code"]) == (403, "email_not_verified")
    assert not Passkey.objects.exists()


def test_address_changed_during_the_ceremony_must_be_verified_first(browser: Browser) -> None:
    asked = options(browser).json()
    User.objects.update(email_verified=False)
    body = {"challenge": asked["challenge"], "credential": Authenticator().create(asked["publicKey"])}
    response = browser.post("/auth/passkeys", body, browser.access)
    assert (response.status_code, response.json()["code"]) == (403, "email_not_verified")
    assert not Passkey.objects.exists()


def test_account_has_at_most_twenty_passkeys(browser: Browser, ann: User, device: Authenticator) -> None:
    enter(device, browser)
    asked = options(browser).json()
    for number in range(19):
        Passkey.objects.create(
            user=ann, credential_id=bytes([number]), public_key=b"", name="x", synced=True, backed_up=True
        )
    response = options(browser)
    assert (response.status_code, response.json()["code"]) == (400, "too_many_passkeys")
    body = {"challenge": asked["challenge"], "credential": Authenticator().create(asked["publicKey"])}
    response = browser.post("/auth/passkeys", body, browser.access)
    assert (response.status_code, response.json()["code"]) == (400, "too_many_passkeys")
    assert ann.passkeys.count() == 20


def test_registered_credential_is_refused(browser: Browser, device: Authenticator) -> None:
    enter(device, browser)
    asked = options(browser).json()
    clone = Authenticator()
    credential = clone.create(asked["publicKey"])
    data = {"challenge": asked["challenge"], "credential": credential}
    assert browser.post("/auth/passkeys", data, browser.access).status_code == 201

    response = browser.post("/auth/passkeys", data, browser.access)

    assert (response.status_code, response.json()) == (400, {"credential": ["This passkey could not be added."]})
    assert Passkey.objects.count() == 2


def test_wrong_credential_is_a_field_error(browser: Browser) -> None:
    response = add(browser, Authenticator(flags=UP | BE | BS))
    assert (response.status_code, response.json()) == (400, {"credential": ["This passkey could not be added."]})
    assert not Passkey.objects.exists()


def test_challenge_is_bound_to_session_user_and_purpose(browser: Browser, clock: TimeMachineFixture) -> None:
    User.objects.create_user("bob", "", PASSWORD)
    bob, again = Browser(), Browser()
    bob.login("bob")
    again.login()
    mine, login = options(browser).json(), Browser().post("/auth/login/passkey/options").json()
    device = Authenticator()
    for browser_, text in [(bob, mine["challenge"]), (again, mine["challenge"]), (browser, login["challenge"])]:
        body = {"challenge": text, "credential": device.create(mine["publicKey"])}
        response = browser_.post("/auth/passkeys", body, browser_.access)
        assert (response.status_code, response.json()["code"]) == (401, "invalid_challenge")
    clock.shift(301)
    body = {"challenge": mine["challenge"], "credential": device.create(mine["publicKey"])}
    response = browser.post("/auth/passkeys", body, browser.access)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_challenge")
    assert not Passkey.objects.exists()


def test_other_sessions_end_with_a_new_passkey_on_request(browser: Browser) -> None:
    other = Browser()
    other.login()
    assert add(browser, Authenticator(), endOtherSessions=True).status_code == 201
    assert other.get("/api/me/").json()["code"] == "token_revoked"
    assert browser.get("/api/me/").status_code == 200


# Signing in with it alone


def test_passkey_signs_in_without_a_name_or_a_code(ann: User, device: Authenticator) -> None:
    mine = Browser()
    response = enter(device, mine)
    assert response.status_code == 200
    assert response.json()["user"] == {"id": ann.pk, "username": "ann", "email": "ann@example.com"}
    assert mine.cookie
    assert claims_of(mine.access)["amr"] == ["pop", "mfa"]
    assert kinds()[-1] == "login"
    assert Passkey.objects.get().last_used_at is not None


def test_app_signs_in_by_passkey(device: Authenticator) -> None:
    http = App().http
    asked = http.post("/api/token/passkey/options/").json()
    body = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}
    response = http.post("/api/token/passkey/", body, format="json")
    assert (response.status_code, sorted(response.json())) == (200, ["access", "refresh"])


def test_login_options_are_the_same_for_everyone(device: Authenticator) -> None:
    response = Browser().post("/auth/login/passkey/options")
    assert response["Cache-Control"] == "no-store"
    asked = response.json()["publicKey"]
    assert (asked["allowCredentials"], asked["userVerification"], asked["rpId"]) == ([], "required", "localhost")


def test_remember_and_device_name_are_accepted(device: Authenticator) -> None:
    response = enter(device, body={**answered(device), "remember": False, "deviceName": "Ann's laptop"})
    assert response.status_code == 200
    session = Session.objects.latest("created_at")
    assert (session.remembered, session.device_name) == (False, "Ann's laptop")


FALSE: dict[str, dict[str, Any]] = {
    "signature": {"signature": lambda it: it[:-1] + bytes([it[-1] ^ 1])},
    "origin": {"client_data": lambda it: {**it, "origin": "https://evil.example"}},
    "type": {"client_data": lambda it: {**it, "type": "webauthn.create"}},
    "challenge": {"client_data": lambda it: {**it, "challenge": "AAAA"}},
    "cross_origin": {"client_data": lambda it: {**it, "crossOrigin": True}},
    "rp_id": {"auth_data": lambda it: bytes(32) + it[32:]},
    "no_presence": {"auth_data": lambda it: it[:32] + bytes([UV | BE | BS]) + it[33:]},
    "no_verification": {"auth_data": lambda it: it[:32] + bytes([UP | BE | BS]) + it[33:]},
    "eligibility": {"auth_data": lambda it: it[:32] + bytes([UP | UV]) + it[33:]},
    "handle_of_another": {"user_handle": lambda it: b64(bytes(len(it) * 3 // 4))},
    "no_handle": {"user_handle": lambda _: None},
}


@pytest.mark.parametrize("what", FALSE)
def test_falsified_assertion_signs_nobody_in_and_reveals_nothing(device: Authenticator, what: str) -> None:
    before = Session.objects.count()
    response = enter(device, **FALSE[what])
    assert (response.status_code, response.json()) == (401, INVALID)
    assert Session.objects.count() == before
    assert kinds()[-1] == "passkey_failed"
    assert enter(device).status_code == 200


def test_deactivated_owner_is_refused_like_a_wrong_signature(ann: User, device: Authenticator) -> None:
    User.objects.update(is_active=False)
    response = enter(device)
    assert (response.status_code, response.json()) == (401, INVALID)


def test_owner_deactivated_at_that_moment_is_refused_like_a_wrong_signature(ann: User, device: Authenticator) -> None:
    with just_before('UPDATE "accounts_passkey"', lambda: User.objects.update(is_active=False)):
        response = enter(device)
    assert (response.status_code, response.json()) == (401, INVALID)


def test_owner_awaiting_verification_is_refused_like_a_wrong_signature(ann: User, device: Authenticator) -> None:
    User.objects.update(awaiting_verification=True)
    response = enter(device)
    assert (response.status_code, response.json()) == (401, INVALID)


def test_unknown_passkey_is_reported_as_unknown(browser: Browser, device: Authenticator) -> None:
    Passkey.objects.all().delete()
    response = enter(device)
    assert (response.status_code, response.json()) == (401, UNKNOWN)


def test_credential_without_an_id_is_invalid(device: Authenticator) -> None:
    body = {**answered(device), "credential": {"id": "x"}}
    response = enter(device, body=body)
    assert (response.status_code, response.json()) == (401, INVALID)


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        ("text", "This must be a JSON object."),
        ([], "This must be a JSON object."),
        ({"a": "x" * 16384}, "This is too large."),
    ],
)
def test_malformed_credential_is_a_field_error(device: Authenticator, credential: Any, message: str) -> None:
    response = Browser().post("/auth/login/passkey", {**answered(device), "credential": credential})
    assert (response.status_code, response.json()) == (400, {"credential": [message]})


def test_assertion_works_once(device: Authenticator) -> None:
    body = answered(device)
    assert enter(device, body=body).status_code == 200
    response = enter(device, body=body)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_challenge")


def test_answer_to_an_earlier_challenge_is_refused(device: Authenticator) -> None:
    earlier = answered(device)
    assert enter(device).status_code == 200
    assert enter(device, body=earlier).json()["code"] == "invalid_challenge"


def test_challenge_expires_after_ten_minutes(device: Authenticator, clock: TimeMachineFixture) -> None:
    earlier, later = answered(device), answered(device)
    clock.shift(595)
    assert enter(device, body=earlier).status_code == 200
    clock.shift(10)
    assert enter(device, body=later).json()["code"] == "invalid_challenge"


@pytest.mark.parametrize("text", ["", "x", "x" * 5000, None, 1, {}])
def test_broken_challenge_is_refused(device: Authenticator, text: Any) -> None:
    response = enter(device, body={**answered(device), "challenge": text})
    assert response.status_code in (400, 401)
    assert Session.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_assertion_sent_many_times_at_once_opens_one_session(device: Authenticator) -> None:
    body = answered(device)
    before = Session.objects.count()
    responses = in_parallel(*[lambda: Browser().post("/auth/login/passkey", body)] * 8)
    codes = sorted((response.status_code, response.json().get("code")) for response in responses)
    assert codes == [(200, None), *[(401, "invalid_challenge")] * 7]
    assert Session.objects.count() == before + 1


# The counter


def test_counter_that_does_not_grow_reveals_a_copy(browser: Browser, ann: User) -> None:
    device = Authenticator(counts=True)
    add(browser, device)
    for _ in range(3):
        assert enter(device).status_code == 200
    device.passkeys[0].sign_count = 1
    body = answered(device)

    response = enter(device, body=body)

    assert (response.status_code, response.json()) == (401, INVALID)
    assert kinds()[-1] == "passkey_cloned"
    assert Passkey.objects.get().sign_count == 3
    # Sent again, it is a replay.
    assert enter(device, body=body).json()["code"] == "invalid_challenge"


def test_counter_that_was_counting_must_not_stop(browser: Browser) -> None:
    device = Authenticator(counts=True)
    add(browser, device)
    assert enter(device).status_code == 200
    device.counts, device.passkeys[0].sign_count = False, 0
    assert enter(device).json() == INVALID


# As a second factor


def test_password_alone_does_not_sign_in(device: Authenticator) -> None:
    asked = asked_for()
    assert asked["methods"] == ["passkey", "recoveryCode"]
    public_key = asked["publicKey"]
    assert public_key["userVerification"] == "discouraged"
    assert [unb64(known["id"]) for known in public_key["allowCredentials"]] == [device.passkeys[0].credential_id]
    assert asked_for(App())["methods"] == ["passkey", "recoveryCode"]


def test_password_and_passkey_sign_in(device: Authenticator) -> None:
    mine = Browser()
    assert second_step(asked_for(), device, mine).status_code == 200
    assert claims_of(mine.access)["amr"] == ["pwd", "pop"]


def test_security_key_without_user_verification_is_enough_after_the_password(device: Authenticator) -> None:
    device.flags &= ~UV
    assert second_step(asked_for(), device, user_handle=lambda _: None).status_code == 200


def test_app_answers_with_a_passkey(device: Authenticator) -> None:
    asked = asked_for(App())
    body = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}
    response = App().http.post("/api/token/second-factor/", body, format="json")
    assert sorted(response.json()) == ["access", "refresh"]


@pytest.mark.parametrize("what", ["signature", "origin", "eligibility", "handle_of_another"])
def test_falsified_second_step_is_refused(device: Authenticator, what: str) -> None:
    response = second_step(asked_for(), device, **FALSE[what])
    assert (response.status_code, response.json()) == (401, INVALID)


def test_another_users_passkey_does_not_sign_in(browser: Browser, device: Authenticator) -> None:
    User.objects.create_user("bob", "", PASSWORD)
    bob, theirs = Browser(), Authenticator()
    bob.login("bob")
    assert add(bob, theirs).status_code == 201
    asked = asked_for()
    body = {
        "challenge": asked["challenge"],
        "credential": theirs.get({**asked["publicKey"], "allowCredentials": []}),
    }
    response = Browser().post("/auth/login/second-factor", body)
    assert (response.status_code, response.json()) == (401, INVALID)


def test_recovery_code_replaces_the_passkey(browser: Browser) -> None:
    codes = add(browser, Authenticator()).json()["recoveryCodes"]
    mine = Browser()
    assert mine.answer(challenge(), codes[0]).status_code == 200
    assert claims_of(mine.access)["amr"] == ["pwd", "mfa"]


@pytest.mark.parametrize("body", [{}, {"code": "123456", "credential": {}}])
def test_second_step_takes_exactly_one_answer(device: Authenticator, body: Any) -> None:
    response = Browser().post("/auth/login/second-factor", {"challenge": asked_for()["challenge"], **body})
    assert (response.status_code, response.json()) == (400, {"code": ["Send either a code or a credential."]})


def test_second_step_answer_is_not_a_login(device: Authenticator) -> None:
    asked = asked_for()
    body = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}
    assert Browser().post("/auth/login/passkey", body).json()["code"] == "invalid_challenge"


# Renewing the sign-in


def renewal(browser: Browser, device: Authenticator, **how: Any) -> dict[str, Any]:
    asked = browser.post("/auth/reauthenticate/options", access=browser.access).json()
    return {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"], **how)}


def test_sign_in_is_renewed_by_passkey(browser: Browser, device: Authenticator, clock: TimeMachineFixture) -> None:
    clock.shift(601)
    browser.refresh()
    assert options(browser).status_code == 401
    response = browser._keep(browser.post("/auth/reauthenticate", renewal(browser, device), browser.access))
    assert response.status_code == 200
    assert claims_of(browser.access)["amr"] == ["pop", "mfa"]
    assert options(browser).status_code == 200


def test_renewal_needs_user_verification(browser: Browser, device: Authenticator) -> None:
    device.flags &= ~UV
    response = browser.post("/auth/reauthenticate", renewal(browser, device), browser.access)
    assert (response.status_code, response.json()) == (401, INVALID)


def test_renewal_needs_a_passkey(browser: Browser) -> None:
    response = browser.post("/auth/reauthenticate/options", access=browser.access)
    assert (response.status_code, response.json()["code"]) == (400, "no_passkey")


# With a second factor, a sign-in counts as recent only if it included a factor.


def test_password_sign_in_before_the_first_passkey_does_not_allow_another(
    browser: Browser, device: Authenticator
) -> None:
    response = options(browser)
    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_required")


# Looking after them


def test_list_shows_passkeys_to_the_browser(browser: Browser, ann: User, device: Authenticator) -> None:
    body = browser.get("/auth/passkeys").json()
    assert body["rpId"] == "localhost"
    assert unb64(body["userId"]) == bytes(ann.passkey_handle)
    [row] = body["results"]
    assert unb64(row["credentialId"]) == device.passkeys[0].credential_id
    assert sorted(row) == [
        "backedUp",
        "createdAt",
        "credentialId",
        "id",
        "lastUsedAt",
        "name",
        "synced",
        "transports",
    ]


def test_passkey_is_renamed(browser: Browser, device: Authenticator) -> None:
    path = f"/auth/passkeys/{Passkey.objects.get().pk}"
    response = browser.http.patch(path, {"name": "Key ring"}, headers={"authorization": f"Bearer {browser.access}"})
    assert (response.status_code, response.json()["name"]) == (200, "Key ring")
    assert Passkey.objects.get().name == "Key ring"


@pytest.mark.parametrize("name", ["", " ", "x" * 65, None, {}, "\0"])
def test_bad_name_changes_nothing(browser: Browser, device: Authenticator, name: Any) -> None:
    path = f"/auth/passkeys/{Passkey.objects.get().pk}"
    response = browser.http.patch(path, {"name": name}, headers={"authorization": f"Bearer {browser.access}"})
    assert response.status_code == 400
    assert Passkey.objects.get().name == "Passkey 1"


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_another_users_passkey_is_not_found(browser: Browser, device: Authenticator, method: str) -> None:
    User.objects.create_user("bob", "", PASSWORD)
    bob = Browser()
    bob.login("bob")
    for pk in (Passkey.objects.get().pk, uuid4()):
        act = getattr(bob.http, method)
        response = act(f"/auth/passkeys/{pk}", {"name": "x"}, headers={"authorization": f"Bearer {bob.access}"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert Passkey.objects.get().name == "Passkey 1"


def drop(browser: Browser, pk: Any = None) -> Any:
    path = f"/auth/passkeys/{pk or Passkey.objects.get().pk}"
    return browser.http.delete(path, headers={"authorization": f"Bearer {browser.access}"})


def test_removing_the_last_passkey_removes_the_recovery_codes(ann: User, device: Authenticator) -> None:
    mine = Browser()
    enter(device, mine)
    assert drop(mine).status_code == 204
    assert not Passkey.objects.exists()
    assert not ann.recovery_codes.exists()
    assert kinds()[-2:] == ["passkey_removed", "second_factor_removed"]
    assert Browser().login().status_code == 200


def test_removing_a_passkey_keeps_the_others(ann: User, device: Authenticator) -> None:
    mine, second = Browser(), Authenticator()
    enter(device, mine)
    pk = add(mine, second).json()["id"]
    assert drop(mine, pk).status_code == 204
    assert ann.recovery_codes.count() == 10
    assert kinds()[-1] == "passkey_removed"
    assert enter(device).status_code == 200


def test_removal_needs_a_recent_sign_in(device: Authenticator, clock: TimeMachineFixture) -> None:
    mine = Browser()
    enter(device, mine)
    clock.shift(601)
    assert drop(mine).json()["code"] == "reauthentication_required"
    assert Passkey.objects.exists()


def test_last_way_to_sign_in_cannot_be_removed(ann: User, device: Authenticator) -> None:
    mine = Browser()
    enter(device, mine)
    ann.refresh_from_db()
    ann.set_unusable_password()
    ann.save()
    enter(device, mine)
    response = drop(mine)
    assert (response.status_code, response.json()["code"]) == (400, "last_way_in")
    assert Passkey.objects.exists()


def test_removal_by_staff_removes_the_passkeys(ann: User, device: Authenticator) -> None:
    assert second_factor.take_away(ann)
    assert not Passkey.objects.exists()
    assert Browser().login().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_owner_deleted_meanwhile_leaves_no_passkey(device: Authenticator) -> None:
    body = answered(device, **FALSE["signature"])
    with just_before('INSERT INTO "latchkey_securityevent"', lambda: User.objects.get().delete()):
        assert enter(device, body=body).json() == INVALID


# Off


@pytest.fixture
def _off(settings: Settings) -> None:
    settings.PASSKEYS = False


CALLS: list[Callable[[Browser], Any]] = [
    lambda browser: browser.post("/auth/login/passkey/options"),
    lambda browser: browser.post("/auth/login/passkey", {}),
    lambda browser: browser.http.post("/api/token/passkey/options/"),
    lambda browser: browser.http.post("/api/token/passkey/", {}),
    lambda browser: browser.post("/auth/passkeys/options", access=browser.access),
    lambda browser: browser.get("/auth/passkeys"),
    lambda browser: browser.post("/auth/reauthenticate/options", access=browser.access),
]


@pytest.mark.usefixtures("_off")
@pytest.mark.parametrize("call", CALLS)
def test_endpoints_do_not_exist_if_passkeys_are_off(browser: Browser, call: Callable[[Browser], Any]) -> None:
    response = call(browser)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_password_alone_does_not_sign_in_after_passkeys_are_turned_off(
    device: Authenticator, settings: Settings
) -> None:
    asked = asked_for()
    answer = {"challenge": asked["challenge"], "credential": device.get(asked["publicKey"])}
    settings.PASSKEYS = False
    asked = asked_for()
    assert asked["methods"] == ["recoveryCode"]
    assert "publicKey" not in asked
    assert Browser().post("/auth/login/second-factor", answer).json()["code"] == "invalid_code"


def test_limit_of_twenty_holds_under_parallel_requests(
    browser: Browser, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managing_passkeys, "MOST", 1)
    asked = options(browser).json()
    body = {"challenge": asked["challenge"], "credential": Authenticator().create(asked["publicKey"])}

    def another() -> None:
        Passkey.objects.create(user=ann, credential_id=b"1", public_key=b"", name="x", synced=True, backed_up=True)

    with just_before("SAVEPOINT", another):
        response = browser.post("/auth/passkeys", body, browser.access)
    assert (response.status_code, response.json()["code"]) == (400, "too_many_passkeys")
    assert connection.in_atomic_block


# In place of a code, and without a password


def test_passkey_is_accepted_in_place_of_a_code(ann: User, browser: Browser, device: Authenticator) -> None:
    body = {"currentPassword": PASSWORD, **renewal(browser, device)}
    response = browser.post("/auth/second-factor/recovery-codes", body, browser.access)
    assert (response.status_code, len(response.json()["recoveryCodes"])) == (200, 10)
    again = browser.post("/auth/second-factor/recovery-codes", body, browser.access)
    assert (again.status_code, again.json()["code"]) == (401, "invalid_challenge")


def test_credential_needs_its_challenge(browser: Browser, device: Authenticator) -> None:
    credential = renewal(browser, device)["credential"]
    body = {"currentPassword": PASSWORD, "credential": credential}
    response = browser.post("/auth/second-factor/recovery-codes", body, browser.access)
    assert (response.status_code, response.json()) == (400, {"challenge": ["This field is required."]})


def test_account_without_a_password_needs_a_recent_sign_in_instead(
    ann: User, device: Authenticator, clock: TimeMachineFixture
) -> None:
    ann.refresh_from_db()
    ann.set_unusable_password()
    ann.save()
    mine = Browser()
    enter(device, mine)
    response = mine.post("/auth/second-factor/recovery-codes", renewal(mine, device), mine.access)
    assert response.status_code == 200
    clock.shift(601)
    response = mine.post("/auth/second-factor/recovery-codes", renewal(mine, device), mine.access)
    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_required")


def test_passkey_row_is_called_by_its_name(device: Authenticator) -> None:
    assert str(Passkey.objects.get()) == "Passkey 1"
