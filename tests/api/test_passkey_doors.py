"""Passkeys at the sign-in forms of the pages: the admin and the browsable API."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.core import signing
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.accounts.authenticator import UV, Authenticator
from tests.accounts.devices import Device, confirm, enrol
from tests.api.people import Person
from tests.api.visitors import ADMIN, API, Visitor, csrf_of
from tests.clients import PASSWORD, Browser
from tests.provers import Prover
from tests.racing import just_before
from tokens.domain import sessions, signing_in
from tokens.models import Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

TICKS = True  # two challenges of one instant can't both be answered

NEW = "the analytical engine"
NOT_VALID = "That passkey did not work. Try again, or sign in another way."
EXPIRED = "This sign-in has expired. Enter your password again."
WANTED = "Enter the code from your authenticator app, or a recovery code."


@pytest.fixture(autouse=True)
def party(settings: Settings) -> None:
    settings.PASSKEY_RP_ID, settings.PASSKEY_RP_NAME = "localhost", "Latchkey"
    settings.PASSKEY_ORIGINS = ["http://localhost:8000"]


@pytest.fixture
def device(staff: Person) -> Authenticator:
    """The authenticator of sue, who is staff, with a passkey."""
    User.objects.update(email_verified=True)
    device = Authenticator()
    asked = staff.call("post", "/auth/passkeys/options").json()
    body = {"challenge": asked["challenge"], "credential": device.create(asked["publicKey"])}
    assert staff.call("post", "/auth/passkeys", body).status_code == 201
    return device


@pytest.fixture(params=[API, ADMIN], ids=["api", "admin"])
def visitor(request: pytest.FixtureRequest) -> Visitor:
    return Visitor("sue", request.param)


def alone(device: Authenticator) -> dict[str, str]:
    """Return what the page's script sends for a sign-in with a passkey alone."""
    asked = Browser().post("/auth/login/passkey/options").json()
    credential = device.get(asked["publicKey"])
    return {"username": "", "password": "", "challenge": asked["challenge"], "credential": json.dumps(credential)}


def second(page: Any, device: Authenticator) -> dict[str, str]:
    """Return what the script sends after a password, with the page's own fields."""
    form = page.context["form"]
    asked = form["public_key"].value()
    credential = device.get(json.loads(asked))
    return {**held(page), "credential": json.dumps(credential)}


def held(page: Any) -> dict[str, str]:
    """Return what the page's form sends at the second step, without the script."""
    form = page.context["form"]
    names = ("second_factor", "public_key")
    assert all(f'name="{name}"' in page.content.decode() for name in names)
    return {"username": "", "password": "", **{name: form[name].value() or "" for name in names}}


def errors_of(page: Any) -> dict[str, list[str]]:
    assert page.status_code == 200
    errors: dict[str, list[str]] = page.context["form"].errors
    return errors


def amrs() -> list[str]:
    return list(Session.objects.order_by("pk").values_list("amr", flat=True))


def test_passkey_alone_signs_in_to_both(visitor: Visitor, device: Authenticator) -> None:
    page = visitor.get(visitor.door)
    assert 'data-options="/auth/login/passkey/options"' in page.content.decode()
    assert visitor.sign_in(**alone(device)).status_code == 302
    assert [visitor.get(path).status_code for path in ("/api/me/", "/admin/")] == [200, 200]
    assert amrs() == ["pwd", "pop mfa"]


def test_password_is_followed_by_the_passkey(visitor: Visitor, device: Authenticator) -> None:
    page = visitor.sign_in()
    assert errors_of(page) == {"code": [WANTED]}
    assert 'name="password"' not in page.content.decode()
    assert visitor.sign_in(**second(page, device)).status_code == 302
    assert amrs() == ["pwd", "pwd pop"]
    # The challenge of a second step opens one session altogether.
    again = Visitor("sue", visitor.door)
    assert errors_of(again.sign_in(**second(page, device))) == {"__all__": [EXPIRED]}
    assert len(amrs()) == 2


def test_password_is_followed_by_the_code(visitor: Visitor, staff: Person, clock: TimeMachineFixture) -> None:
    device = Device(enrol(staff).json()["secret"])
    confirm(staff, device.code())
    clock.shift(60)
    page = visitor.sign_in()
    assert "data-options" not in page.content.decode()
    page = visitor.sign_in(**held(page), code=device.wrong())
    assert errors_of(page) == {"code": ["This code is wrong or was already used."]}
    assert visitor.sign_in(**held(page), code=device.code()).status_code == 302
    assert amrs() == ["pwd", "pwd otp"]


def test_expired_second_step_starts_over_with_the_password(
    visitor: Visitor, device: Authenticator, clock: TimeMachineFixture
) -> None:
    page = visitor.sign_in()
    clock.shift(301)
    page = visitor.sign_in(**second(page, device))
    assert errors_of(page) == {"__all__": [EXPIRED]}
    assert 'name="password"' in page.content.decode()


def test_challenge_bound_to_a_key_opens_no_page_session(visitor: Visitor, device: Authenticator) -> None:
    body = {"username": "sue", "password": PASSWORD}
    proof = Prover().prove("POST", "http://testserver/auth/login")
    asked = Browser().post("/auth/login", body, headers={"dpop": proof}).json()
    page = visitor.sign_in(second_factor=asked["challenge"], code="123456")
    assert errors_of(page) == {"__all__": ["The key proof was signed with a different key from the token's."]}


@pytest.mark.parametrize(
    "forged",
    [
        "[",
        "[]",
        "[" * 9999,
        "{}",
        json.dumps({"rawId": "\ud800"}),
        json.dumps({"rawId": "\0"}),
        json.dumps({"rawId": "a" * 20_000}),
    ],
)
def test_malformed_credential_is_refused(visitor: Visitor, device: Authenticator, forged: str) -> None:
    assert errors_of(visitor.sign_in(**alone(device) | {"credential": forged})) == {"__all__": [NOT_VALID]}
    assert amrs() == ["pwd"]


def test_passkey_without_user_verification_is_refused_alone_and_good_after_the_password(
    visitor: Visitor, device: Authenticator
) -> None:
    device.flags &= ~UV
    assert errors_of(visitor.sign_in(**alone(device))) == {"__all__": [NOT_VALID]}
    assert visitor.sign_in(**second(visitor.sign_in(), device)).status_code == 302


def test_passkeys_are_neither_offered_nor_accepted_when_off(
    visitor: Visitor, device: Authenticator, settings: Settings
) -> None:
    sent = alone(device)
    settings.PASSKEYS = False
    assert "data-options" not in visitor.get(visitor.door).content.decode()
    assert visitor.sign_in(**sent).status_code == 200
    assert amrs() == ["pwd"]


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_passkey_of_a_user_without_access_starts_no_session(device: Authenticator, change: dict[str, bool]) -> None:
    visitor = Visitor("sue", ADMIN)
    User.objects.update(**change)
    assert errors_of(visitor.sign_in(**alone(device))).keys() == {"__all__"}
    assert amrs() == ["pwd"]


def test_owner_deactivated_at_that_moment_is_refused(visitor: Visitor, device: Authenticator) -> None:
    with just_before('UPDATE "accounts_passkey"', lambda: User.objects.update(is_active=False)):
        assert errors_of(visitor.sign_in(**alone(device))).keys() == {"__all__"}
    assert amrs() == ["pwd"]


def test_challenge_answered_elsewhere_at_that_moment_opens_no_second_session(
    visitor: Visitor, staff: Person, device: Authenticator
) -> None:
    answer = second(visitor.sign_in(), device)
    key = UUID(signing.loads(answer["second_factor"], salt=signing_in.SALT)["sid"])
    with just_before('INSERT INTO "latchkey_session"', lambda: sessions.start(staff.user, pk=key)):
        assert errors_of(visitor.sign_in(**answer)) == {"__all__": [EXPIRED]}


@pytest.mark.parametrize(("age", "refused"), [(590, None), (601, "This needs a recent sign-in. Sign in again.")])
def test_first_password_needs_a_recent_sign_in_by_passkey(
    device: Authenticator, clock: TimeMachineFixture, age: int, refused: str | None
) -> None:
    user = User.objects.get(username="sue")
    user.set_unusable_password()
    user.save()
    visitor = Visitor("sue", ADMIN)
    visitor.sign_in(**alone(device))
    clock.shift(age)
    page = visitor.get("/admin/password_change/")
    assert 'name="old_password"' not in page.content.decode()

    chosen = {"new_password1": NEW, "new_password2": NEW, "csrfmiddlewaretoken": csrf_of(page)}
    page = visitor.http.post("/admin/password_change/", chosen)

    user.refresh_from_db()
    assert user.check_password(NEW) is not bool(refused)
    if refused:
        assert errors_of(page) == {"new_password1": [refused]}
        assert refused in page.content.decode()
    else:
        assert page["Location"] == "/admin/password_change/done/"
