"""Races against the server as it runs in production: gunicorn, several processes, requests in the same moment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from tests.proof.counts import Counts
from tests.proof.size import LONG
from tests.proof.wire import Answer, Request, by_body, by_cookie, log_out, me, send, together
from tests.server import address_of_database, serve
from tokens import sessions
from tokens.models import Reason, SecurityEvent, Session
from tokens.tokens import AccessToken, RefreshToken

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "correct horse battery staple"
IS_POSTGRESQL = connection.vendor == "postgresql"

GRACE = 10  # seconds
PARALLEL = 50
ROUNDS = 200 if LONG else 40 if IS_POSTGRESQL else 10
"""Rounds of parallel refreshes, over both transports."""

PAIR_ROUNDS = 100 if LONG else 3
LOGOUT_ROUNDS = 20 if LONG else 2


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    """One for all tests here: each has users of its own."""
    workers = "4" if IS_POSTGRESQL else "2"
    # The issuer is that of this process, which makes the tokens that it starts from itself.
    public = "http://127.0.0.1:8000"
    with serve(address_of_database(), WORKERS=workers, THREADS="4", THROTTLING="off", PUBLIC_URL=public) as url:
        yield url


@dataclass
class Held:
    """A session and what its client holds."""

    session: Session
    refresh: str
    access: str

    @property
    def row(self) -> Session:
        row: Session = Session.objects.get(pk=self.session.pk)
        return row


def sign_in(user: Any) -> Held:
    session = sessions.start(user)
    return Held(session, str(RefreshToken.of(session)), str(AccessToken.of(session)))


@pytest.fixture
def ann() -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@pytest.mark.parametrize("transport", [by_cookie, by_body])
def test_parallel_refreshes_all_get_the_same_token(
    server: str, ann: Any, counts: Counts, transport: Callable[[str], Request]
) -> None:
    held_up = 0
    for _ in range(ROUNDS // 2):
        held = sign_in(ann)
        answers = together(server, *[transport(held.refresh)] * PARALLEL)
        assert {answer.status for answer in answers} == {200}, {(answer.status, answer.code) for answer in answers}
        if max(answer.ended - answer.began for answer in answers) >= GRACE:
            held_up += 1  # by a busy machine, past the grace period: a late retry gets another token, and no refusal
            continue
        assert len({answer.refresh for answer in answers}) == 1
        assert held.row.generation == 1
    assert held_up <= max(1, ROUNDS // 20)
    counts.add("Parallel refreshes", f"{PARALLEL} at once", rounds=ROUNDS // 2, refreshes=PARALLEL * (ROUNDS // 2))


def end_request(end: str, held: Held, other: Held) -> Request:
    """Return what ends the session `held`, by itself or from the other one."""
    match end:
        case "logout":
            return log_out(held.access, held.refresh)
        case "logout everywhere":
            return Request("POST", "/auth/logout-all", access=held.access)
        case "blacklisting":
            return Request("POST", "/api/token/blacklist/", body={"refresh": held.refresh})
        case "revocation from elsewhere":
            return Request("DELETE", f"/api/sessions/{held.session.pk}/", access=other.access)
        case "revocation of the others":
            return Request("POST", "/api/sessions/revoke-others/", access=other.access)
    body = {"currentPassword": PASSWORD, "newPassword": PASSWORD + "!"}
    return Request("POST", "/auth/password/change", access=other.access, body=body)


ENDS = ("logout", "logout everywhere", "blacklisting", "revocation from elsewhere", "revocation of the others")
"""What ends a session, and nothing that a client does at the same time must outlive."""


class Load(Thread):
    """A client that refreshes and asks all the time, as fast as it can, until it is told to stop."""

    def __init__(self, url: str, held: Held, stop: Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.refresh, self.access = held.refresh, held.access
        self.answers: list[Answer] = []

    def run(self) -> None:
        while not self.stop.is_set():
            for request in (by_cookie(self.refresh), me(self.access)):
                answer = send(self.url, request)
                self.answers.append(answer)
                if answer.status == 200 and answer.refresh:
                    self.refresh, self.access = answer.refresh, answer.access


@pytest.mark.parametrize("end", ENDS)
def test_nothing_succeeds_after_an_acknowledged_end_under_load(server: str, ann: Any, counts: Counts, end: str) -> None:
    random = Random(end)
    after = 0
    for _ in range(LOGOUT_ROUNDS):
        held, other = sign_in(ann), sign_in(ann)
        stop = Event()
        clients = [Load(server, held, stop) for _ in range(4)]
        for client in clients:
            client.start()
        sleep(random.uniform(0.05, 0.3))
        acknowledged = send(server, end_request(end, held, other))
        sleep(0.15)
        stop.set()
        for client in clients:
            client.join(60)
        assert acknowledged.status in (200, 204), (acknowledged.status, acknowledged.body)
        answers = [answer for client in clients for answer in client.answers]
        assert {answer.status for answer in answers} <= {200, 401}, {answer.status for answer in answers}
        late = [answer for answer in answers if answer.began > acknowledged.ended]
        assert {(answer.status, answer.code) for answer in late} <= {(401, "token_revoked")}
        after += len(late)
        # The tokens that each client came to hold last are as dead.
        for client in clients:
            assert send(server, by_cookie(client.refresh)).code == "token_revoked"
            assert send(server, me(client.access)).code == "token_revoked"
        assert held.row.revoked_at is not None
    assert after
    counts.add("Requests begun after an acknowledged end", end, rounds=LOGOUT_ROUNDS, refused=after, accepted=0)


@pytest.mark.parametrize("end", [*ENDS, "password change"])
def test_an_end_beside_refreshes_and_uses_is_final(server: str, counts: Counts, end: str) -> None:
    """All at once: whichever comes first, afterwards the session has ended, once, and nothing of it works."""
    manager: Any = get_user_model()._default_manager
    for number in range(PAIR_ROUNDS):
        user = manager.create_user(f"user{number}", password=PASSWORD)
        held, other = sign_in(user), sign_in(user)
        beside = [by_cookie(held.refresh), by_body(held.refresh), me(held.access)] * 3
        first, *answers = together(server, end_request(end, held, other), *beside)
        assert first.status in (200, 204), (first.status, first.body)
        assert {answer.status for answer in answers} <= {200, 401}
        assert {answer.code for answer in answers if answer.status == 401} <= {"token_revoked"}
        assert len({answer.refresh for answer in answers if answer.refresh}) <= 1
        for refresh in {held.refresh, *(answer.refresh for answer in answers if answer.refresh)}:
            assert send(server, by_cookie(refresh)).code == "token_revoked"
        assert held.row.revoked_at is not None
        assert SecurityEvent.objects.filter(user=user, session=held.session.pk).exclude(kind="login").count() == 1
    counts.add("An end beside nine refreshes and uses", end, rounds=PAIR_ROUNDS, survivors=0)


def test_old_token_beside_the_newest_ends_the_session_once(server: str, ann: Any, counts: Counts) -> None:
    for _ in range(PAIR_ROUNDS):
        held = sign_in(ann)
        current = held.session
        for _ in range(2):
            Session.objects.filter(pk=current.pk).update(rotated_at=timezone.now() - timedelta(seconds=11))
            current = sessions.rotate(dict(RefreshToken.of(held.row).payload))
        newest = str(RefreshToken.of(current))
        answers = together(server, *[by_body(held.refresh), by_cookie(newest), me(str(AccessToken.of(current)))] * 4)
        assert {answer.status for answer in answers} <= {200, 401}
        assert sum(answer.code == "token_reused" for answer in answers) == 1
        assert held.row.revoked_reason == Reason.REUSED
        assert SecurityEvent.objects.filter(kind="token_reused", session=held.session.pk).count() == 1
    counts.add("An old token beside the newest", "4 of each", rounds=PAIR_ROUNDS, endings=PAIR_ROUNDS)
