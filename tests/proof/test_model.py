"""Compares the real code with the model in random stories: devices, lost responses, thieves, and a clock that jumps.

Sessions are bound to the key of the device that signs in, or to none. Each answer is compared with the model's. Two
more promises need no model. Reuse never signs out a device whose tokens nobody has stolen, unless it lost the responses
to four late retries in a row. Once a session has ended, none of its tokens is accepted again. For both, a thief with
the tokens of a bound session but without its key doesn't count.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import get_user_model
from hypothesis import HealthCheck, Phase
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pytest_django import Settings

from tests.proof.counts import Counts
from tests.proof.model import ACCESS_LIFE, GRACE, LATE_RETRIES, REFRESH_LIFE, Answer, ModelSession
from tests.proof.size import LONG
from tokens.domain import sessions
from tokens.exceptions import KeyMismatch, ProofRequired, TokenRefused, TokenReused
from tokens.models import Reason, Session
from tokens.tokens import AccessToken, RefreshToken

START = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)

EXAMPLES, STEPS = (400, 60) if LONG else (16, 40)

PAUSES = (
    0.0,
    0.5,
    5.0,
    GRACE - 0.001,
    GRACE,
    GRACE + 0.001,
    30.0,
    ACCESS_LIFE,
    86400.0,
    REFRESH_LIFE - 1,
    REFRESH_LIFE,
)
"""Seconds: just below and above each limit."""

CALM = 8
"""The least number of responses between two ends of sessions. Otherwise most stories would be about ended sessions."""

KEYS = st.sampled_from(["the device's", ""])
"""The keys that clients prove at their login."""


@dataclass(eq=False)
class Device:
    """A holder of one session's tokens: its owner's device, or a thief."""

    session: "Pair"
    refresh: str
    number: int
    """The number of the refresh token in the session."""

    accesses: list[tuple[str, int]] = field(default_factory=list)
    """Access tokens, each with the number of the refresh token that it was issued with."""

    key: str = ""
    """The key that it proves with each request; empty for none."""

    def prove(self, jkt: str) -> None:
        if self.key != jkt:
            raise KeyMismatch if self.key else ProofRequired


@dataclass(eq=False)
class Pair:
    """A real session, by its primary key, and its model."""

    key: Any
    model: ModelSession
    was_stolen: bool = False
    texts: dict[int, str] = field(default_factory=dict)
    """Each refresh token that was issued, by its number."""

    late_losses: int = 0


class Story(RuleBasedStateMachine):
    devices = Bundle("devices")

    def __init__(self) -> None:
        super().__init__()
        self.clock = time_machine.travel(START, tick=False)
        self.traveller = self.clock.start()
        manager: Any = get_user_model()._default_manager
        self.user = manager.create_user("ann", password="1")
        self.passwords = 1
        self.pairs: list[Pair] = []
        self.answered = 0

    def teardown(self) -> None:
        self.user.delete()
        self.clock.stop()

    @property
    def now(self) -> float:
        return datetime.now(UTC).timestamp()

    # What people do

    @initialize(target=devices, key=KEYS)
    def first_login(self, key: str) -> Any:
        return self.login(key)

    @rule(target=devices, key=KEYS)
    def login(self, key: str) -> Any:
        session = sessions.start(self.user, jkt=key)
        pair = Pair(session.pk, ModelSession(began=self.now, key=key))
        self.pairs.append(pair)
        return self._keep(Device(pair, "", 0, key=key), session)

    @rule(seconds=st.sampled_from(PAUSES))
    def time_passes(self, seconds: float) -> None:
        self.traveller.shift(timedelta(seconds=seconds))

    @rule(device=devices)
    def refresh(self, device: Device) -> None:
        self._refresh(device, is_lost=False)

    @rule(device=devices)
    def refresh_and_lose_the_answer(self, device: Device) -> None:
        """The device keeps the tokens that it had before."""
        self._refresh(device, is_lost=True)

    def _refresh(self, device: Device, *, is_lost: bool) -> None:
        pair, now = device.session, self.now
        if pair.model.key in ("", device.key):
            if device.number == pair.model.newest:
                pair.late_losses = 0
            elif device.number == pair.model.exchanged and now - pair.model.newest_issued > GRACE:
                pair.late_losses += 1
        expected = pair.model.refresh(device.number, now, proven=device.key)
        answer, session = self._ask(lambda: sessions.rotate(RefreshToken.claims(device.refresh), prove=device.prove))
        self._compare(answer, expected)
        if session is None:
            if answer == TokenReused.code and not pair.was_stolen:
                assert pair.late_losses > LATE_RETRIES, "thrown out, though nobody stole from it"
            return
        handed_out = pair.texts.setdefault(session.generation, str(RefreshToken.of(session)))
        assert str(RefreshToken.of(session)) == handed_out, "given again, but not the same"
        if not is_lost:
            self._keep(device, session)

    @rule(device=devices, data=st.data())
    def use_an_access_token(self, device: Device, data: st.DataObject) -> None:
        text, came_with = data.draw(st.sampled_from(device.accesses))
        expires = int(AccessToken.backend.decode(text, verify=False)["exp"])
        expected = device.session.model.access(came_with, expires, self.now, proven=device.key)
        answer, _ = self._ask(lambda: sessions.accept(AccessToken.claims(text), prove=device.prove))
        self._compare("let in" if isinstance(answer, int) else answer, expected)
        if answer == TokenReused.code:
            assert device.session.was_stolen, "thrown out, though nobody stole from it"

    @rule(device=devices)
    def look_at_the_refresh_token(self, device: Device) -> None:
        expected = device.session.model.verify(device.number, self.now)
        answer, _ = self._ask(lambda: RefreshToken(device.refresh).session)
        self._compare("let in" if isinstance(answer, int) else answer, expected)

    @rule(device=devices, data=st.data())
    def look_at_an_access_token(self, device: Device, data: st.DataObject) -> None:
        text, came_with = data.draw(st.sampled_from(device.accesses))
        expires = int(AccessToken.backend.decode(text, verify=False)["exp"])
        expected = device.session.model.verify_access(came_with, expires, self.now)
        answer, _ = self._ask(lambda: AccessToken(text).session)
        self._compare("let in" if isinstance(answer, int) else answer, expected)

    @rule(target=devices, device=devices, key=st.sampled_from(["", "the thief's", "the device's"]))
    def steal(self, device: Device, key: str) -> Device:
        """Copy all tokens of the device, and perhaps its key, as from a backup. From then on, both act."""
        device.session.was_stolen |= device.session.model.key in ("", key)
        return Device(device.session, device.refresh, device.number, list(device.accesses), key)

    @rule(device=consumes(devices))
    def forget(self, device: Device) -> None:
        """Lose the device."""

    # What ends sessions

    @precondition(lambda self: self.answered >= CALM)
    @rule(device=devices, end=st.sampled_from(["logout", "others", "everywhere", "password", "deactivation"]))
    def end(self, device: Device, end: str) -> None:
        self.answered = 0
        session = self._row(device.session)
        match end:
            case "logout" if session is not None and not self._is_dead(session):
                assert sessions.revoke(session, Reason.LOGOUT)
                device.session.model.end("logout")
            case "others" if session is not None and not device.session.model.is_over(self.now):
                sessions.revoke_others(session, Reason.REVOKED)
                self._end_all("revoked", but=device.session)
            case "everywhere":
                sessions.revoke_all(self.user, Reason.LOGOUT_ALL)
                self._end_all("logout_all")
            case "password":
                self._set_password()
                self._end_all("password")
            case "deactivation":
                for is_active in (False, True):
                    self.user.is_active = is_active
                    self.user.save()
                self._end_all("deactivated")

    @precondition(lambda self: self.answered >= CALM)
    @rule(target=devices, device=devices)
    def change_the_password_and_go_on(self, device: Device) -> Any:
        """After the owner's change, all earlier tokens are refused, and the owner's device has new ones."""
        session = self._row(device.session)
        if session is None or device.session.model.is_over(self.now):
            return multiple()
        self.answered = 0
        sessions.revoke_others(session, Reason.PASSWORD)
        self._set_password()
        successor = sessions.succeed(session, self.user)
        self._end_all("password")
        key = device.session.model.key
        pair = Pair(successor.pk, ModelSession(began=self.now, key=key))
        self.pairs.append(pair)
        assert successor.jkt == key
        return self._keep(Device(pair, "", 0, key=key), successor)

    @invariant()
    def sessions_end_when_the_model_says_so(self) -> None:
        """Exactly the sessions that ended in the model have ended."""
        for pair in self.pairs:
            row = self._row(pair)
            if row is None:
                assert pair.model.is_over(self.now), "pruned before its time"
            else:
                assert self._is_dead(row) == bool(pair.model.ended), pair.model

    # How it is compared

    def _set_password(self) -> None:
        self.passwords += 1
        self.user.set_password(str(self.passwords))
        self.user.save()

    def _keep(self, device: Device, session: Session) -> Device:
        pair = device.session
        device.refresh, device.number = str(RefreshToken.of(session)), session.generation
        pair.texts.setdefault(device.number, device.refresh)
        device.accesses.append((str(AccessToken.of(session)), session.generation))
        return device

    def _ask(self, act: Callable[[], Session]) -> tuple[Answer, Session | None]:
        try:
            session = act()
        except TokenRefused as refusal:
            code: Any = refusal.code
            return code, None
        return session.generation, session

    def _compare(self, answer: Answer, expected: Answer) -> None:
        self.answered += 1
        asked["answers"] += 1
        assert answer == expected

    def _end_all(self, reason: str, but: Pair | None = None) -> None:
        """Expired sessions need no ending; the code may have left their rows unchanged."""
        for pair in self.pairs:
            if pair is not but and not pair.model.is_over(self.now):
                pair.model.end(reason)
            elif pair is not but and not pair.model.ended:
                row = self._row(pair)
                if row is not None and self._is_dead(row):
                    pair.model.end(reason)

    @staticmethod
    def _row(pair: Pair) -> Session | None:
        row: Session | None = Session.objects.select_related("user").filter(pk=pair.key).first()
        return row

    @staticmethod
    def _is_dead(row: Session) -> bool:
        return row.revoked_at is not None or not row.user.is_active or row.password_changed


asked = {"answers": 0}


@pytest.fixture
def cheap(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.django_db
def test_every_answer_matches_the_model(cheap: None, counts: Counts) -> None:
    asked["answers"] = 0
    run_state_machine_as_test(
        Story,
        settings=how(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not LONG,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    counts.add("Random stories against the model", "all", stories=EXAMPLES, answers=asked["answers"])
