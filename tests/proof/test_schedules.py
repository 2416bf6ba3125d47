"""Every interleaving of concurrent operations, statement by statement, on PostgreSQL: schedules.py runs them."""

import logging
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.proof.counts import Counts
from tests.proof.operations import CAP, ENDS, KEY, NEWEST, OPERATIONS, THEFTS, USES, Scene, hashed
from tests.proof.schedules import Schedule, Stage
from tests.proof.size import LONG
from tokens import signals
from tokens.domain import outages, sessions
from tokens.exceptions import TokenRefused
from tokens.models import SecurityEvent, Session

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time"),
]


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker: Any) -> Iterator[Stage]:
    with django_db_blocker.unblock(), Stage(3) as stage:
        yield stage


rotations: list[tuple[Any, int]] = []
"""The session and the new generation of each rotation in the current schedule."""


def note_rotation(session: Session, **kwargs: Any) -> None:
    rotations.append((session.pk, session.generation))


@pytest.fixture(autouse=True)
def set_up(monkeypatch: pytest.MonkeyPatch, settings: Settings, time_machine: TimeMachineFixture) -> Iterator[None]:
    settings.TOKENS_MAX_SESSIONS_PER_USER = CAP
    monkeypatch.setattr(outages, "PAUSES", ())  # a deadlock that is tried again would not be seen
    monkeypatch.setattr(logging.getLogger("latchkey.security"), "disabled", True)
    signals.session_rotated.connect(note_rotation)
    yield
    signals.session_rotated.disconnect(note_rotation)
    time_machine.move_to("2030-01-01T12:00:00Z", tick=False)


REFUSALS = (TokenRefused, ValidationError, User.DoesNotExist)
"""The errors of an operation to which the views respond with a 4xx."""


def is_at_the_end_of_its_time(state: str, names: tuple[str, ...]) -> bool:
    """Return whether one of the two exceptions applies, both for a session that expires at this moment.

    A login beside a refresh that renews it doesn't count it, so there may be one session more than the cap. Pruning
    leaves it for the next run if another transaction holds it.
    """
    return state == "expired" and ("prune" in names or ("login that evicts" in names and not USES.isdisjoint(names)))


class Watch:
    """Explores one set of operations, and checks each schedule."""

    def __init__(self, stage: Stage, state: str, names: tuple[str, ...]) -> None:
        self.stage, self.state, self.names = stage, state, names
        self.password, self.jkt = hashed(), "" if THEFTS.keys().isdisjoint(names) else KEY
        self.scene: Scene = Scene.lay(state, self.password, self.jkt)

    def prepare(self) -> list[Callable[[], Any]]:
        """Set up a new scene, and return its operations."""
        self.scene = Scene.lay(self.state, self.password, self.jkt)
        rotations.clear()
        return [(OPERATIONS | THEFTS)[name](self.scene) for name in self.names]

    def explore(self) -> int:
        """Run every schedule, and return their number. Each must end as if the operations had not overlapped."""
        serial = {self.check(schedule) for schedule in self.stage.explore(self.prepare, serially=True)}
        count = 0
        for schedule in self.stage.explore(self.prepare):
            count += 1
            outcome = self.check(schedule)
            if outcome not in serial and not is_at_the_end_of_its_time(self.state, self.names):
                expected = "\n".join(sorted(serial))
                pytest.fail(f"{outcome}\nafter\n{schedule}\nOne after the other:\n{expected}", pytrace=False)
        return count

    def check(self, schedule: Schedule) -> str:
        """Check what must hold after every schedule, and return its outcome as text."""
        outcomes = [summary(outcome) for outcome in schedule.outcomes]
        for outcome, name in zip(schedule.outcomes, self.names, strict=True):
            is_fault = isinstance(outcome, Exception) and not isinstance(outcome, REFUSALS)
            assert not is_fault, f"{name} failed: {outcome!r}\n{schedule}"
        row = Session.objects.select_related("user").filter(pk=self.scene.main.pk).first()
        user = User.objects.filter(pk=self.scene.user.pk).first()
        self.check_generations(row, schedule)
        self.check_ends(row, schedule)
        others = sorted(map(state_of, Session.objects.exclude(pk=self.scene.main.pk)))  # in any order
        events = SecurityEvent.objects.order_by("kind").values_list("kind", "count")
        return " | ".join(
            [
                *(f"{name}: {outcome}" for name, outcome in zip(self.names, outcomes, strict=True)),
                f"main: {state_of(row)}",
                f"others: {others}",
                f"user: {user and (user.is_active, user.password == self.password)}",
                f"events: {list(events)}",
            ]
        )

    def check_generations(self, row: Session | None, schedule: Schedule) -> None:
        """No generation is skipped or issued twice, and at most one of all issued tokens is the current one."""
        steps = sorted(generation for session, generation in rotations if session == self.scene.main.pk)
        assert steps == list(range(NEWEST + 1, NEWEST + 1 + len(steps))), f"{steps}\n{schedule}"
        if row is not None:
            assert row.generation == NEWEST + len(steps), f"{steps}\n{schedule}"
        good = [n for n in range(NEWEST, NEWEST + len(steps) + 1) if is_current(self.scene.refresh_claims(n))]
        assert len(good) <= 1, f"{good} are all current\n{schedule}"

    def check_ends(self, row: Session | None, schedule: Schedule) -> None:
        """Operations that began after an acknowledged end are refused, and so is every later use of a token."""
        for end, ending in enumerate(self.names):
            if ending not in ENDS or isinstance(schedule.outcomes[end], Exception):
                continue
            if ending == "login that evicts" and not (row and row.revoked_at):
                continue  # it evicted the other session, which then was the least recently used
            for other, name in enumerate(self.names):
                if name in USES and schedule.began[other] >= schedule.ended[end]:
                    assert isinstance(schedule.outcomes[other], TokenRefused), f"{name} after {ending}\n{schedule}"
            newest = NEWEST + len(rotations)
            assert not looks_good(self.scene.refresh_claims(newest)), f"after {ending}\n{schedule}"
            assert not looks_good(self.scene.access_claims(self.scene.main, newest)), f"{ending}\n{schedule}"


def summary(outcome: Any) -> str:
    if isinstance(outcome, TokenRefused):
        return outcome.code
    return type(outcome).__name__ if isinstance(outcome, Exception) else str(outcome)


def state_of(row: Session | None) -> str:
    if row is None:
        return "gone"
    if row.revoked_at:
        return f"{row.generation} {row.revoked_reason}"
    alive = row.user.is_active and not row.password_changed
    return f"{row.generation} after {row.predecessor}, {'confirmed' if row.confirmed else 'unconfirmed'}, {alive}"


def looks_good(claims: dict[str, Any]) -> bool:
    try:
        sessions.introspect(claims)
    except TokenRefused:
        return False
    return True


def is_current(claims: dict[str, Any]) -> bool:
    return looks_good(claims) and sessions.introspect(claims).generation == claims["generation"]


COMMON = ("refresh", "retry", "use of an access token")
"""What an honest client does all the time, in two statements at most. `make test` runs the pairs with the first in
them, each beside a thief without the key, and the three of them together; `make proof` runs everything."""


@pytest.mark.parametrize("state", ["young", "late", "expired"])
@pytest.mark.parametrize("first", [*OPERATIONS, *THEFTS] if LONG else [COMMON[0], "refresh without the key"])
def test_pairs_of_operations_are_serialisable(
    stage: Stage, counts: Counts, state: str, first: str, subtests: pytest.Subtests
) -> None:
    others = OPERATIONS if LONG or first in OPERATIONS else COMMON
    for pair in [*combinations_with_replacement(OPERATIONS, 2), *product(THEFTS, others)]:
        if pair[0] == first:
            with subtests.test(msg=" + ".join(pair)):
                counts.add("Interleavings of two operations", state, schedules=Watch(stage, state, pair).explore())


@pytest.mark.parametrize("state", ["young", "late"])
@pytest.mark.parametrize("names", list(combinations_with_replacement(COMMON, 3)) if LONG else [COMMON], ids=", ".join)
def test_triples_of_short_operations_are_serialisable(
    stage: Stage, counts: Counts, state: str, names: tuple[str, ...]
) -> None:
    counts.add("Interleavings of three operations", state, schedules=Watch(stage, state, names).explore())
