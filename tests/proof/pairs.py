"""The operations that meet over HTTP: as requests, on the model of a session, and the outcome of two of them.

An operation on the model halts where the code lets others in: before each statement or transaction. Running the parts
of two operations in every order gives all their possible outcomes.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from itertools import combinations
from random import Random
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.kinds import PASSWORD_CHANGED
from tests.proof.model import REFRESH_LIFE, ModelSession
from tests.proof.operations import AGES, CAP, EXCHANGED, NEW_PASSWORD, NEWEST, OLD, PASSWORD, Scene, at
from tests.proof.wire import Answer, Request, by_body, by_cookie, log_out, me
from tokens.models import Reason, SecurityEvent, Session
from tokens.tokens import AccessToken, RefreshToken

NOW, THEN = 0, 1
"""In the model: the time at which tokens are verified, and the time at which expiry is compared. In the state
"expired", the session has expired in between."""

Parts = Generator[None, None, str]
"""An operation on the model: halts before each of its parts, and returns the response."""


@dataclass
class World:
    """A scene in the model."""

    main: ModelSession
    other: ModelSession
    begun: list[ModelSession] = field(default_factory=list)
    """The sessions that logins began, and the change of the password."""

    is_active: bool = True
    password: str = PASSWORD

    @classmethod
    def of(cls, state: str) -> "World":
        end = THEN if state == "expired" else THEN + REFRESH_LIFE
        return cls(_session(-AGES[state].total_seconds(), end), _session(-0.001, THEN + REFRESH_LIFE, was_used=True))

    @property
    def sessions(self) -> list[ModelSession]:
        return [self.main, self.other, *self.begun]

    def lets_in(self) -> bool:
        """Return whether the original password opens a session."""
        return self.is_active and self.password == PASSWORD

    def end_all(self, reason: str) -> None:
        for session in self.sessions:
            session.end(reason)

    def begin(self, ended: str = "") -> None:
        session = ModelSession(NOW, ended=ended)
        session.was_used = True  # as in the row: no token can have been given up
        self.begun.append(session)


def _session(issued: float, end: int, *, was_used: bool = False) -> ModelSession:
    session = ModelSession(-timedelta(days=1).total_seconds())
    session.newest, session.exchanged, session.newest_issued, session.was_used = NEWEST, EXCHANGED, issued, was_used
    session.expiries = {OLD: THEN + REFRESH_LIFE, EXCHANGED: THEN + REFRESH_LIFE, NEWEST: end}
    return session


def _guard(session: ModelSession, *, confirms: bool = True) -> str:
    """Return why the access token of the newest generation is refused; empty if it is accepted."""
    was_used = session.was_used
    answer = session.access(NEWEST, THEN + REFRESH_LIFE, NOW)
    session.was_used = session.was_used if confirms else was_used
    return "" if answer == "let in" else str(answer)


def _refresh(token: int, world: World) -> Parts:
    yield
    answer = world.main.refresh(token, NOW)
    return _token(answer) if isinstance(answer, int) else answer


def _use(world: World) -> Parts:
    yield
    return _guard(world.main) or "200"


def _log_out(world: World) -> Parts:
    yield
    if refused := _guard(world.main, confirms=False):
        return refused
    yield
    world.main.end("logout")
    return "204"


def _log_out_all(world: World) -> Parts:
    yield
    if refused := _guard(world.main):
        return refused
    yield
    world.end_all("logout_all")
    return "204"


def _change_password(world: World) -> Parts:
    yield
    if refused := _guard(world.other, confirms=False):
        return refused
    if world.password != PASSWORD:
        return "400"
    yield
    if not world.lets_in():
        return "400"
    if world.other.ended:
        return "token_revoked"
    world.end_all("password")
    world.password = NEW_PASSWORD
    world.begin()
    return "200"


def _deactivate(world: World) -> Parts:
    yield
    world.end_all("deactivated")
    world.is_active = False
    return "200"


def _log_in(world: World) -> Parts:
    yield
    if not world.lets_in():
        return "invalid_credentials"
    yield
    if not world.is_active:
        return "invalid_credentials"
    is_stale = world.password != PASSWORD
    live = [] if is_stale else [session for session in world.sessions if not session.is_over(THEN)]
    live.sort(key=lambda session: session.newest_issued)
    evicted = live[: max(len(live) + 1 - CAP, 0)]
    for session in evicted:
        session.end("cap")
    if world.main.is_over(THEN) and not world.main.ended:
        yield  # a refresh may renew it, since it holds no lock that this waits for
    if not evicted:
        _expire(world.main)
    # A session from a login with the former password had ended as soon as it began.
    world.begin("stale" if is_stale else "")
    return _token(0)


def _prune(world: World) -> Parts:
    yield
    _expire(world.main)
    return "done"


def _expire(session: ModelSession) -> None:
    if session.is_over(THEN):
        session.end("expired")


@dataclass(frozen=True)
class Operation:
    request: Callable[[Scene, str], Request] | None
    """Returns the request, given a superuser's access token; None for the command."""

    model: Callable[[World], Parts]
    differs: tuple[str, ...] = ("late",)
    """The states of the session in which it behaves differently."""


random = Random("pairs")


def _refreshing(generation: int, scene: Scene, staff: str) -> Request:
    return random.choice((by_cookie, by_body))(refresh_token(scene.main, generation))


def _using(scene: Scene, staff: str) -> Request:
    return me(access_token(scene.main))


def _logging_out(scene: Scene, staff: str) -> Request:
    return log_out(access_token(scene.main), refresh_token(scene.main, NEWEST))


def _logging_out_everywhere(scene: Scene, staff: str) -> Request:
    return Request("POST", "/auth/logout-all", access=access_token(scene.main))


def _changing_the_password(scene: Scene, staff: str) -> Request:
    body = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    return Request("POST", "/auth/password/change", access=access_token(scene.other), body=body)


def _deactivating(scene: Scene, staff: str) -> Request:
    return Request("PATCH", f"/api/users/{scene.user.pk}/", access=staff, body={"isActive": False})


def _logging_in(scene: Scene, staff: str) -> Request:
    return Request("POST", "/auth/login", body={"username": scene.user.username, "password": PASSWORD})


OPERATIONS = {
    "refresh": Operation(partial(_refreshing, NEWEST), partial(_refresh, NEWEST), ("young", "late")),
    "retry": Operation(partial(_refreshing, EXCHANGED), partial(_refresh, EXCHANGED), ("young", "late")),
    "old token": Operation(partial(_refreshing, OLD), partial(_refresh, OLD)),
    "use": Operation(_using, _use),
    "logout": Operation(_logging_out, _log_out),
    "logout everywhere": Operation(_logging_out_everywhere, _log_out_all),
    "password change": Operation(_changing_the_password, _change_password),
    "deactivation": Operation(_deactivating, _deactivate),
    "login": Operation(_logging_in, _log_in, ("late", "expired")),
    "prune": Operation(None, _prune, ("expired",)),
}
"""The other session changes the password. The login evicts a session, or prunes the expired one."""


def states(*names: str) -> list[str]:
    """Return the states of the session in which combining these operations is useful."""
    if "prune" in names:
        return ["expired"]
    return [state for state in AGES if any(state in OPERATIONS[name].differs for name in names)]


PARTS = 3
"""The most parts of an operation."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of two operations, as text: the responses, and the sessions afterwards."""

    answers: tuple[str, ...]
    main: str
    other: str
    begun: tuple[str, ...]
    is_active: bool


@cache
def possible(state: str, *names: str) -> frozenset[Outcome]:
    """Return all outcomes of the operations that the model allows."""
    turns = range(2 * PARTS)
    return frozenset(
        _run([int(turn in second) for turn in turns], state, names) for second in combinations(turns, PARTS)
    )


def _run(order: list[int], state: str, names: tuple[str, ...]) -> Outcome:
    world = World.of(state)
    acts = [OPERATIONS[name].model(world) for name in names]
    answers = [""] * len(names)
    for number in [*range(len(names)), *order]:  # the first turn of each leads to its first part
        try:
            next(acts[number])
        except StopIteration as stop:
            answers[number] = stop.value or answers[number]
    begun = sorted(_standing(session) for session in world.begun)
    return Outcome(tuple(answers), _standing(world.main), _standing(world.other), tuple(begun), world.is_active)


def _standing(session: ModelSession) -> str:
    if session.is_over(THEN):
        return session.ended or "expired"
    return _tell(session.newest, session.exchanged or 0, session.was_used)


def _token(generation: int) -> str:
    return f"token {generation}"


def _tell(generation: int, predecessor: int, is_used: bool) -> str:
    return f"{generation} after {predecessor}, {'used' if is_used else 'unused'}"


@dataclass
class Round:
    """A scene in which the operations met: the responses, if they were requests, and the state afterwards."""

    scene: Scene
    answers: list[Answer | None]
    rows: dict[UUID, Session] = field(default_factory=dict)
    reasons: dict[UUID | None, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The reasons in the log for which sessions ended, by session."""

    def standing(self, session: UUID) -> str:
        """Return why the session ended, if the row and the log agree, or its state if it is active."""
        row, reasons = self.rows.get(session), " and ".join(self.reasons[session])
        if row is None:
            return reasons or "expired"
        if row.revoked_reason != reasons:
            return f"{row.revoked_reason}, logged as {reasons}"
        if reasons:
            return reasons
        if row.password_changed:
            return "stale"
        if row.expires_at <= timezone.now():
            return "expired"
        return _tell(row.generation, row.predecessor, row.confirmed)

    @property
    def outcome(self) -> Outcome:
        main, other = self.scene.main.pk, self.scene.other.pk
        begun = sorted(self.standing(session) for session in self.rows if session not in (main, other))
        answers = tuple(_summary(answer) if answer else "done" for answer in self.answers)
        return Outcome(
            answers, self.standing(main), self.standing(other), tuple(begun), self.rows[other].user.is_active
        )

    def tokens(self) -> Iterator[tuple[str, bool]]:
        """Yield the tokens of either kind that someone holds now, and whether each is good."""
        held = refresh_token(self.scene.main, NEWEST)
        for token in (held, *(answer.refresh for answer in self.answers if answer and answer.refresh)):
            session, generation = _named(token)
            standing, row = self.standing(session), self.rows.get(session)
            if standing == "expired":
                continue  # by their own times, these tokens have not expired
            is_alive = row is not None and standing == _tell(row.generation, row.predecessor, row.confirmed)
            if row is not None and is_alive and generation == row.predecessor < row.generation and row.confirmed:
                continue  # the predecessor is good until the grace period is over
            yield token, row is not None and is_alive and generation in (row.generation, row.predecessor)
        if self.scene.main.pk in self.rows and self.rows[self.scene.main.pk].revoked_at:
            yield access_token(self.scene.main), False


def read(rounds: list[Round]) -> None:
    """Read the rows of the rounds from the database."""
    of = {each.scene.user.pk: each for each in rounds}
    for row in Session.objects.filter(user__in=of).select_related("user"):
        of[row.user_id].rows[row.pk] = row
    for event in SecurityEvent.objects.filter(user__in=of).exclude(reason=""):
        of[event.user_id].reasons[event.session].append(event.reason)
    # Ended by the session that changed the password.
    for event in SecurityEvent.objects.filter(user__in=of, kind=PASSWORD_CHANGED):
        of[event.user_id].reasons[event.session].append(Reason.PASSWORD)


def _summary(answer: Answer) -> str:
    """Return the error's code, or which refresh token came back, or the status."""
    return answer.code or (_token(_named(answer.refresh)[1]) if answer.refresh else str(answer.status))


def _named(token: str) -> tuple[UUID, int]:
    """Return the session and the generation in a refresh token."""
    claims: dict[str, Any] = RefreshToken.backend.decode(token, verify=False)
    return UUID(claims["sid"]), int(claims["generation"])


def refresh_token(session: Session, generation: int) -> str:
    """Return the refresh token of that generation, good for a moment longer than the row, as if it had been verified
    before the end."""
    session = at(session, generation)
    session.expires_at += timedelta(minutes=5)
    return str(RefreshToken.of(session))


def access_token(session: Session) -> str:
    return str(AccessToken.of(at(session, NEWEST)))
