"""A new factor needs its module and its place in the list: no code of the login knows of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from time_machine import TimeMachineFixture

from accounts.factors import codes, recovery_codes, registry, second_factor
from accounts.factors.factor import CodeNotValid, Factor
from accounts.models import AuthenticatorApp, RecoveryCode, User
from tests.accounts.devices import Device, Enrolled, challenge, confirm, enrol, set_up
from tests.clients import PASSWORD, Browser
from tokens.domain import signing_in
from tokens.domain.client import Client
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid
from tokens.models import Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

OWNED = datetime(2029, 1, 1, tzinfo=UTC)


class DoorKey:
    """A factor that a user has or not, and that accepts every answer but "wrong"."""

    METHOD = FIELD = "doorKey"
    NOT_VALID: type[AnswerNotValid] = CodeNotValid

    def __init__(self) -> None:
        self.owned_since: datetime | None = OWNED

    def usable(self) -> bool:
        return True

    def since(self, user: User) -> datetime | None:
        return self.owned_since

    def options(self, user: User, challenge: str) -> Mapping[str, Any]:
        return {"lock": user.username}

    def use(self, user: User, answer: Answer, client: Client) -> Sequence[str] | None:
        return None if answer["doorKey"] == "wrong" else ("pwd", "hwk")

    def remove(self, user: User) -> bool:
        owned, self.owned_since = self.owned_since, None
        return owned is not None


@pytest.fixture
def ann_has(browser: Browser, clock: TimeMachineFixture) -> Enrolled:
    """An authenticator app, of a while ago."""
    enrolled = set_up(browser)
    clock.shift(300)
    return enrolled


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> DoorKey:
    key = DoorKey()
    factors: Sequence[Factor] = (codes, key)
    monkeypatch.setattr(registry, "FACTORS", factors)
    return key


def test_login_names_every_method_that_the_account_has(ann_has: Enrolled, key: DoorKey) -> None:
    refused = Browser().login().json()
    assert (refused["methods"], refused["lock"]) == (["otp", "doorKey", "recoveryCode"], "ann")
    key.owned_since = None
    refused = Browser().login().json()
    assert refused["methods"] == ["otp", "recoveryCode"]
    assert "lock" not in refused


@pytest.mark.parametrize("factor", [codes, recovery_codes])
def test_code_needs_no_options_from_the_server(ann: User, factor: Factor) -> None:
    assert factor.options(ann, "a challenge") == {}


def test_either_factor_answers_the_challenge(ann_has: Enrolled, key: DoorKey) -> None:
    with pytest.raises(AnswerNotValid):
        signing_in.answer(challenge(), {"doorKey": "wrong"})
    assert signing_in.answer(challenge(), {"doorKey": "right"}).amr == "pwd hwk"
    assert signing_in.answer(challenge(), {"code": ann_has.device.code()}).amr == "pwd otp"
    assert signing_in.answer(challenge(), {"code": ann_has.codes[0]}).amr == "pwd mfa"


def test_enrolment_date_is_that_of_the_first_factor(ann_has: Enrolled, browser: Browser, key: DoorKey) -> None:
    assert browser.get("/auth/second-factor").json()["enabledAt"] == "2029-01-01T00:00:00Z"


def test_recovery_codes_are_kept_when_a_factor_is_added(ann_has: Enrolled, browser: Browser, key: DoorKey) -> None:
    session = Session.objects.get()
    code = {"code": ann_has.device.code()}
    second_factor.remove(session, PASSWORD, code)
    assert RecoveryCode.objects.count() == 10  # the key is left
    device = Device(enrol(browser).json()["secret"])
    response = confirm(browser, device.code())
    assert (response.status_code, response.json()) == (200, {})
    assert RecoveryCode.objects.count() == 10


def test_removing_the_last_factor_removes_the_recovery_codes(ann_has: Enrolled, browser: Browser, key: DoorKey) -> None:
    key.owned_since = None
    body = {"currentPassword": PASSWORD, "code": ann_has.device.code()}
    assert browser.post("/auth/second-factor/remove", body, browser.access).status_code == 204
    assert not RecoveryCode.objects.exists()


def test_staff_removes_every_factor(ann: User, ann_has: Enrolled, key: DoorKey) -> None:
    assert second_factor.take_away(ann)
    assert key.owned_since is None
    assert not AuthenticatorApp.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert not second_factor.take_away(ann)
