"""Accounts without a password, such as those that sign in at another service, at each door that asks for one."""

from typing import Any

import pytest
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.accounts.devices import Enrolled, set_up
from tests.clients import Browser, claims_of
from tokens.models import Session
from tokens.tokens import AccessToken

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

DOORS: dict[str, dict[str, Any]] = {
    "/auth/password/change": {"newPassword": "another horse battery"},
    "/auth/account/delete": {},
    "/auth/second-factor": {},
    "/api/me/": {"email": "new@example.com"},
    "/auth/second-factor/recovery-codes": {},
    "/auth/second-factor/remove": {},
}
WITH_FACTOR = [door for door in DOORS if door != "/auth/second-factor"]
WITHOUT = [door for door in DOORS if not door.startswith("/auth/second-factor/")]


def without_password(ann: User) -> Browser:
    """Take her password away, and sign her in as another service would."""
    ann.refresh_from_db()
    ann.set_unusable_password()
    ann.save()
    browser = Browser()
    browser.access = str(AccessToken.for_user(ann))
    return browser


def knock(browser: Browser, door: str, **answer: Any) -> Any:
    send = browser.http.patch if door == "/api/me/" else browser.http.post
    return send(door, {**DOORS[door], **answer}, format="json", headers={"authorization": f"Bearer {browser.access}"})


def renew(browser: Browser, **answer: Any) -> Any:
    return browser._keep(browser.post("/auth/reauthenticate", answer, browser.access))


def state(user: User) -> Any:
    """Return everything that the doors could change."""
    return User.objects.filter(pk=user.pk).values().get(), user.recovery_codes.count(), sessions_of(user)


def sessions_of(user: User) -> Any:
    return list(Session.objects.filter(user=user).values("pk", "reauthenticated_at", "amr", "revoked_at"))


def test_owner_can_ask_whether_there_is_a_password(ann: User) -> None:
    with_one = Browser()
    with_one.login()
    assert with_one.get("/auth/password").json() == {"hasPassword": True}
    assert without_password(ann).get("/auth/password").json() == {"hasPassword": False}


@pytest.mark.parametrize("door", WITHOUT)
def test_recent_sign_in_replaces_the_password(ann: User, door: str) -> None:
    User.objects.update(email_verified=True)
    assert knock(without_password(ann), door).status_code in (200, 204)


@pytest.mark.parametrize("body", [{}, {"currentPassword": "a guess"}])
@pytest.mark.parametrize("door", WITHOUT)
def test_old_sign_in_is_refused_with_the_way_to_renew_it(
    ann: User, clock: TimeMachineFixture, door: str, body: dict[str, str]
) -> None:
    User.objects.update(email_verified=True)
    browser = without_password(ann)
    clock.shift(601)
    before = state(ann)

    response = knock(browser, door, **body)

    sentence = "This needs a recent sign-in. Sign in again."
    assert (response.status_code, response.json()) == (401, {"detail": sentence, "code": "reauthentication_required"})
    assert 'error="insufficient_user_authentication"' in response["WWW-Authenticate"]
    assert state(ann) == before


def test_recent_sign_in_cannot_renew_itself(ann: User, clock: TimeMachineFixture) -> None:
    """Otherwise, an access token that was stolen in its first ten minutes could stay recent forever."""
    browser = without_password(ann)
    for _ in range(2):
        before = sessions_of(ann)
        response = renew(browser, currentPassword="a guess")
        sentence = "Your account has no password. Sign in again instead."
        assert (response.status_code, response.json()) == (400, {"detail": sentence, "code": "no_password"})
        assert sessions_of(ann) == before
        clock.shift(601)


@pytest.fixture
def ann_has(browser: Browser, clock: TimeMachineFixture) -> Enrolled:
    enrolled = set_up(browser)
    clock.shift(300)
    return enrolled


@pytest.mark.parametrize("door", WITH_FACTOR)
def test_second_factor_renews_the_sign_in(ann: User, ann_has: Enrolled, clock: TimeMachineFixture, door: str) -> None:
    browser = without_password(ann)
    clock.shift(601)
    before = state(ann)
    response = knock(browser, door, code=ann_has.device.code())
    sentence = "This needs a recent sign-in. Confirm that it's you with your second factor, or sign in again."
    assert (response.status_code, response.json()) == (401, {"detail": sentence, "code": "reauthentication_required"})
    assert state(ann) == before

    assert renew(browser, code=ann_has.device.code()).status_code == 200
    clock.shift(30)

    assert knock(browser, door, code=ann_has.device.code()).status_code in (200, 204)


@pytest.mark.parametrize(("by_device", "amr"), [(True, ["otp"]), (False, ["mfa"])])
def test_amr_of_the_renewed_sign_in_names_no_password(
    ann: User, ann_has: Enrolled, by_device: bool, amr: list[str]
) -> None:
    browser = without_password(ann)

    renew(browser, code=ann_has.device.code() if by_device else ann_has.codes[0])

    assert claims_of(browser.access)["amr"] == amr


@pytest.mark.parametrize("with_code", [False, True])
def test_wrong_or_missing_code_renews_nothing(
    ann: User, ann_has: Enrolled, clock: TimeMachineFixture, with_code: bool
) -> None:
    browser = without_password(ann)
    before = sessions_of(ann)
    response = renew(browser, **({"code": ann_has.device.wrong()} if with_code else {}))
    assert (response.status_code, [*response.json()]) == (400, ["code"])
    assert sessions_of(ann) == before
