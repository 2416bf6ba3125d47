"""Each thief of docs/attack-model.md, against an owner who refreshes every fifteen minutes."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App
from tests.provers import Prover, ProvingClient
from tokens import kinds
from tokens.jose import dpop
from tokens.models import Reason, SecurityEvent, Session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

START = "2030-01-01T12:00:00.250Z"

GRACE = 11  # seconds: past the grace period
TURN = 900  # seconds between two refreshes of the owner's


class Party(App):
    """Owner or thief. When one is refused, they know that the session is over."""

    def steal_from(self, other: "Party") -> None:
        self.refresh_token, self.access = other.refresh_token, other.access

    def use(self) -> int:
        """Use the access token; return the status."""
        status: int = self.http.post("/auth/introspect", HTTP_AUTHORIZATION=f"Bearer {self.access}").status_code
        return status

    def works(self) -> bool:
        """Refresh, and use the new access token; return whether both were accepted (403: accepted, but not staff)."""
        return self.refresh().status_code == 200 and self.use() == 403


@pytest.fixture
def owner(clock: TimeMachineFixture) -> Party:
    manager: Any = get_user_model()._default_manager
    manager.create_user("ann", password=PASSWORD)
    owner = Party()
    assert owner.login().status_code == 200
    # In the middle of a session's life: not the token from the login.
    assert owner.works()
    clock.shift(timedelta(seconds=TURN / 2))
    return owner


@pytest.fixture
def thief(owner: Party) -> Party:
    thief = Party()
    thief.steal_from(owner)
    return thief


READABLE = ("/api/me/", "/api/sessions/", "/api/security-events/", "/api/sessions/?pageSize=1", "/auth/second-factor")
"""The requests for reading that an access token allows."""


def readable(thief: Party, stolen: str) -> list[Any]:
    """Return everything that the thief can learn without using the refresh token."""
    guard: Any = {"HTTP_AUTHORIZATION": f"Bearer {thief.access}", "HTTP_USER_AGENT": "the thief's"}
    answers = [thief.http.get(path, **guard) for path in READABLE]
    answers += [thief.verify(stolen), thief.verify(thief.access)]
    return [(answer.status_code, dict(answer.headers), answer.content) for answer in answers]


def is_over() -> bool:
    return bool(Session.objects.get().revoked_reason == Reason.REUSED)


def test_thief_who_refreshes_first_is_detected_at_the_owners_next_refresh(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    assert thief.works()
    clock.shift(timedelta(seconds=TURN))
    assert owner.refresh().json()["code"] == "token_reused"
    assert is_over()
    assert thief.refresh().json()["code"] == "token_revoked"
    assert thief.use() == 401


def test_alternating_thief_is_detected(owner: Party, thief: Party, clock: TimeMachineFixture) -> None:
    turns = 0
    while not is_over():
        thief.works()
        clock.shift(timedelta(seconds=TURN / 2))
        owner.works()
        clock.shift(timedelta(seconds=TURN / 2))
        turns += 1
    assert turns <= 2


def test_thief_who_rotates_early_and_waits_has_a_dead_token(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    assert thief.refresh().status_code == 200
    clock.shift(timedelta(seconds=TURN))
    assert owner.works()
    assert owner.refresh_token != thief.refresh_token
    clock.shift(timedelta(seconds=TURN))
    assert not thief.works()
    assert is_over()


def test_polling_thief_is_detected(owner: Party, thief: Party, clock: TimeMachineFixture) -> None:
    stolen, polls = thief.refresh_token, 0
    while not is_over():
        thief.refresh(stolen)
        clock.shift(timedelta(seconds=GRACE))
        polls += 1
    assert polls == 5  # the rotation, three late retries, and the reuse


def test_polling_within_the_grace_period_does_not_extend_it(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    stolen = owner.refresh_token
    assert owner.works()
    for _ in range(10):
        clock.shift(timedelta(seconds=1))
        assert thief.refresh(stolen).status_code == 200
    clock.shift(timedelta(seconds=1))
    assert thief.refresh(stolen).json()["code"] == "token_reused"


def test_no_endpoint_reveals_to_a_thief_that_the_owner_refreshed(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    stolen = thief.refresh_token
    Party().login()  # another session, for the list
    before = readable(thief, stolen)
    body = {"refresh": owner.refresh_token}
    # The address has changed, as a phone's does all the time.
    answer = owner.http.post("/api/token/refresh/", body, format="json", REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 200
    assert readable(thief, stolen) == before
    owner.access = answer.json()["access"]
    assert owner.use() == 403
    assert readable(thief, stolen) == before


def test_thief_who_polls_verify_learns_of_a_refresh_too_late(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    stolen, polls = thief.refresh_token, 0
    assert owner.works()
    while thief.verify(stolen).status_code == 200:
        clock.shift(timedelta(seconds=1))
        polls += 1
    assert polls == GRACE
    assert thief.refresh(stolen).json()["code"] == "token_reused"
    assert is_over()


@pytest.mark.parametrize("kind", ["refresh", "access"])
def test_thief_who_polls_a_given_up_token_gains_nothing(
    owner: Party, thief: Party, clock: TimeMachineFixture, kind: str
) -> None:
    stolen = thief.refresh_token
    assert thief.refresh().status_code == 200
    polled = thief.refresh_token if kind == "refresh" else thief.access
    assert thief.verify(polled).status_code == 200
    clock.shift(timedelta(seconds=TURN / 2))
    assert owner.works()
    assert thief.verify(polled).json()["code"] == "token_not_valid"
    assert Session.objects.get().revoked_at is None
    assert thief.refresh(stolen).json()["code"] == "token_reused"
    assert is_over()


def test_owner_continues_after_a_thief_verifies_a_given_up_token(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    assert thief.refresh().status_code == 200
    clock.shift(timedelta(seconds=TURN / 2))
    assert owner.works()
    assert thief.verify(thief.access).status_code == 401
    for _ in range(3):
        clock.shift(timedelta(seconds=TURN))
        lost = owner.refresh_token
        assert owner.refresh().status_code == 200
        clock.shift(timedelta(seconds=GRACE))
        assert owner.refresh(lost).status_code == 200
        assert owner.works()


@pytest.mark.parametrize("held", ["the newest", "the exchanged", "the given up"])
def test_password_change_locks_the_thief_out(owner: Party, thief: Party, clock: TimeMachineFixture, held: str) -> None:
    if held == "the exchanged":
        assert owner.works()
    if held == "the given up":
        assert thief.refresh().status_code == 200
        clock.shift(timedelta(seconds=TURN / 2))
        assert owner.works()
    body = {"currentPassword": PASSWORD, "newPassword": "quite another horse", "refresh": owner.refresh_token}
    guard: Any = {"HTTP_AUTHORIZATION": f"Bearer {owner.access}"}
    answer = owner.http.post("/auth/password/change", body, format="json", **guard)
    assert answer.status_code == 200
    owner.refresh_token = answer.json()["refresh"]
    for token in (thief.refresh_token, thief.access):
        assert thief.verify(token).json()["code"] == "token_revoked"
    assert thief.refresh().json()["code"] == "token_revoked"
    assert thief.use() == 401
    assert owner.works()


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


def test_thief_within_the_grace_period_is_detected_at_the_first_missed_refresh(
    owner: Party, thief: Party, clock: TimeMachineFixture
) -> None:
    """The limit of a grace period, as the attack model says."""
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


def test_thief_is_detected_at_once_without_a_grace_period(
    owner: Party, thief: Party, clock: TimeMachineFixture, settings: Settings
) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    assert owner.works()
    clock.shift(timedelta(seconds=1))
    assert not thief.works()
    assert is_over()


# Bound to a key


@pytest.fixture
def key() -> Prover:
    return Prover()


@pytest.fixture
def bound(clock: TimeMachineFixture, key: Prover) -> Party:
    """An owner whose session is bound to a key."""
    manager: Any = get_user_model()._default_manager
    manager.create_user("ann", password=PASSWORD)
    owner = Party()
    owner.http = ProvingClient(key)
    assert owner.login().status_code == 200
    assert owner.works()
    clock.shift(timedelta(seconds=TURN / 2))
    return owner


def robbed_of(owner: Party, prover: Prover | None) -> Party:
    """Return a thief with copies of both tokens, who proves a key of their own, or none."""
    thief = Party()
    if prover:
        thief.http = ProvingClient(prover)
    thief.steal_from(owner)
    return thief


def codes_of(thief: Party) -> set[str]:
    """Try everything that a token allows, except ending the session; return the codes of the refusals."""
    guard: Any = {"HTTP_AUTHORIZATION": f"Bearer {thief.access}"}
    answers = [thief.http.get(path, **guard) for path in READABLE]
    answers += [thief.http.post(path, **guard) for path in ("/auth/logout-all", "/auth/introspect")]
    answers += [thief.http.post("/auth/refresh-token", HTTP_COOKIE=f"refreshToken={thief.refresh_token}")]
    answers += [thief.refresh(thief.refresh_token)]
    assert {answer.status_code for answer in answers} == {401}
    assert not any(answer.cookies for answer in answers)
    return {answer.json()["code"] for answer in answers}


@pytest.mark.parametrize("has_a_key", [False, True])
def test_thief_without_the_key_is_refused_while_the_owner_continues(
    bound: Party, clock: TimeMachineFixture, has_a_key: bool
) -> None:
    expected = {"dpop_key_mismatch"} if has_a_key else {"dpop_proof_required"}
    for _ in range(3):
        thief = robbed_of(bound, Prover() if has_a_key else None)
        assert codes_of(thief) == expected
        assert bound.works()
        assert codes_of(thief) == expected  # within the grace period
        clock.shift(timedelta(seconds=GRACE))
        assert codes_of(thief) == expected
        clock.shift(timedelta(seconds=TURN))
        assert bound.works()
    assert SecurityEvent.objects.filter(kind=kinds.TOKEN_UNPROVEN).exists()


def test_intercepted_request_cannot_be_replayed(bound: Party, key: Prover) -> None:
    """The intercepted proof works once, and only for that call."""
    url, token = "http://testserver/api/me/", bound.access
    read: Any = {"HTTP_AUTHORIZATION": f"DPoP {token}", "HTTP_DPOP": key.prove("GET", url, token)}
    assert APIClient().get("/api/me/", **read).status_code == 200
    for path in ("/api/me/", "/api/sessions/"):
        assert APIClient().get(path, **read).json()["code"] == "invalid_dpop_proof"


def test_script_in_the_page_can_use_the_key_only_while_the_page_is_open(
    bound: Party, key: Prover, clock: TimeMachineFixture
) -> None:
    """It can't copy the key. It can copy proofs that it makes in advance, but their nonce expires within minutes."""
    url, nonce = "http://testserver/api/token/refresh/", dpop.newest_nonce()
    ahead = [key.prove("POST", url, nonce=nonce, iat=2_000_000_000) for _ in range(2)]
    taken: Any = {"data": {"refresh": bound.refresh_token}, "format": "json"}
    assert APIClient().post("/api/token/refresh/", **taken, HTTP_DPOP=ahead[0]).status_code == 200
    clock.shift(timedelta(minutes=3))
    answer = APIClient().post("/api/token/refresh/", **taken, HTTP_DPOP=ahead[1])
    assert answer.json()["code"] == "use_dpop_nonce"
