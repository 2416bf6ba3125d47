"""Each thief of docs/attack-model.md, against an owner who refreshes every fifteen minutes."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db

GRACE = 11  # seconds: past the grace period
TURN = 900  # seconds between two refreshes of the owner's


class Party(App):
    """Owner or thief: whoever is refused knows that the session is over."""

    def steal_from(self, other: "Party") -> None:
        self.refresh_token, self.access = other.refresh_token, other.access

    def use(self) -> int:
        """Use the access token; return the status."""
        status: int = self.http.post("/auth/introspect", HTTP_AUTHORIZATION=f"Bearer {self.access}").status_code
        return status

    def works(self) -> bool:
        """Refresh, and use what came back; return whether both were accepted (403: let in, but no staff)."""
        return self.refresh().status_code == 200 and self.use() == 403


@pytest.fixture(autouse=True)
def clock(time_machine: TimeMachineFixture) -> TimeMachineFixture:
    time_machine.move_to("2030-01-01T12:00:00.250Z", tick=False)
    return time_machine


@pytest.fixture
def owner(clock: TimeMachineFixture) -> Party:
    manager: Any = get_user_model()._default_manager
    manager.create_user("ann", password=PASSWORD)
    owner = Party()
    assert owner.login().status_code == 200
    # In the middle of its life: not the token from the login.
    assert owner.works()
    clock.shift(timedelta(seconds=TURN))
    return owner


@pytest.fixture
def thief(owner: Party) -> Party:
    thief = Party()
    thief.steal_from(owner)
    return thief


def is_over() -> bool:
    return bool(Session.objects.get().revoked_reason == Reason.REUSED)


def test_thief_before_is_seen_at_the_owners_next_refresh(owner: Party, thief: Party, clock: TimeMachineFixture) -> None:
    assert thief.works()
    clock.shift(timedelta(seconds=TURN))
    assert owner.refresh().json()["code"] == "token_reused"
    assert is_over()
    assert thief.refresh().json()["code"] == "token_revoked"
    assert thief.use() == 401


def test_alternating_thief_is_seen(owner: Party, thief: Party, clock: TimeMachineFixture) -> None:
    turns = 0
    while not is_over():
        thief.works()
        clock.shift(timedelta(seconds=TURN / 2))
        owner.works()
        clock.shift(timedelta(seconds=TURN / 2))
        turns += 1
    assert turns <= 2


def test_thief_who_rotates_early_and_keeps_quiet_holds_a_dead_token(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    assert thief.refresh().status_code == 200
    clock.shift(timedelta(seconds=TURN))
    assert owner.works()
    assert owner.refresh_token != thief.refresh_token
    clock.shift(timedelta(seconds=TURN))
    assert not thief.works()
    assert is_over()


def test_thief_who_polls_is_seen(owner: Party, thief: Party, clock: TimeMachineFixture) -> None:
    stolen, polls = thief.refresh_token, 0
    while not is_over():
        thief.refresh(stolen)
        clock.shift(timedelta(seconds=GRACE))
        polls += 1
    assert polls == 5  # the rotation, three late retries, and the one that is reuse


def test_thief_who_polls_within_the_grace_period_arms_nothing(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    stolen = owner.refresh_token
    assert owner.works()
    for _ in range(10):
        clock.shift(timedelta(seconds=1))
        assert thief.refresh(stolen).status_code == 200
    clock.shift(timedelta(seconds=1))
    assert thief.refresh(stolen).json()["code"] == "token_reused"


def test_hoarded_access_tokens_die_with_the_session(owner: Party, clock: TimeMachineFixture) -> None:
    hoard = []
    for _ in range(5):
        assert owner.works()
        hoard.append(owner.access)
        clock.shift(timedelta(seconds=TURN / 5))
    thief = Party()
    assert owner.blacklist(owner.refresh_token).status_code == 200
    for access in hoard:
        thief.access = access
        assert thief.use() == 401


def test_thief_within_the_grace_period_is_not_seen_until_one_refresh_is_missed(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    """What a grace period leaves; the attack model says so."""
    for _ in range(3):
        assert owner.works()
        clock.shift(timedelta(seconds=5))
        assert thief.works()
        assert thief.refresh_token == owner.refresh_token
        clock.shift(timedelta(seconds=TURN))
    assert owner.works()
    clock.shift(timedelta(seconds=GRACE))
    assert not thief.works()
    assert is_over()


def test_without_a_grace_period_that_thief_is_seen(
    owner: Party, thief: Party, clock: TimeMachineFixture, settings: Settings
) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    assert owner.works()
    clock.shift(timedelta(seconds=1))
    assert not thief.works()
    assert is_over()
