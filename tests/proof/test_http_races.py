"""Races against the server as it runs in production: gunicorn, several processes, requests in the same moment."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from itertools import combinations_with_replacement
from math import ceil
from random import Random
from threading import Event, Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings

from tests.mailbox import wait_until
from tests.proof.counts import Counts
from tests.proof.operations import CAP, NEWEST, PASSWORD, Scene, hashed
from tests.proof.pairs import OPERATIONS, Outcome, Round, access_token, possible, read, refresh_token, states
from tests.proof.size import LONG
from tests.proof.wire import Answer, Request, by_body, by_cookie, log_out, me, send, together
from tests.provers import Prover
from tests.server import address_of_database, serve
from tokens.domain import sessions
from tokens.jose import dpop
from tokens.models import Session
from tokens.tokens import AccessToken, RefreshToken

pytestmark = pytest.mark.django_db(transaction=True)

IS_POSTGRESQL = connection.vendor == "postgresql"

GRACE = 10  # seconds
PARALLEL = 50
ROUNDS = 200 if LONG else 20 if IS_POSTGRESQL else 10
"""Rounds of parallel refreshes, over both transports."""

PAIR_ROUNDS = 200 if LONG else 1
"""Rounds of each pair, over all states of the session."""

FLIGHT = 8
"""How many rounds of a pair run at once."""

HELD_UP = GRACE - 2
"""Seconds after which a round doesn't count, because it may have lasted past the grace period on a busy machine."""

THIEF = 2
"""The place of a third party, beside those of the pair."""

LOGOUT_ROUNDS = 20 if LONG else 2

random = Random("races")


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    """Shared by all tests here; each has its own users."""
    with serve(
        address_of_database(),
        DJANGO_SETTINGS_MODULE="tests.settings_races",
        WORKERS="4" if IS_POSTGRESQL else "2",
        THREADS="4",
        THROTTLING="off",
        MAX_SESSIONS_PER_USER=str(CAP),
        # The issuer is that of this process, which makes the initial tokens.
        PUBLIC_URL="http://localhost:8000",
    ) as url:
        yield url


@dataclass
class Held:
    """A session and what its client holds."""

    session: Session
    refresh: str
    access: str
    prover: Prover | None = None
    """Holds the key to which the session is bound, if it is."""

    def proven(self, url: str, request: Request) -> Request:
        return proven(self.prover, url, request) if self.prover else request

    @property
    def row(self) -> Session:
        row: Session = Session.objects.get(pk=self.session.pk)
        return row


def sign_in(user: Any, prover: Prover | None = None) -> Held:
    session = sessions.start(user, jkt=prover.jkt if prover else "")
    return Held(session, str(RefreshToken.of(session)), str(AccessToken.of(session)), prover)


def proven(prover: Prover, url: str, request: Request) -> Request:
    proof = prover.prove(request.method, url + request.path, request.access or None, nonce=dpop.newest_nonce())
    return replace(request, proof=proof)


@pytest.fixture
def ann() -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@pytest.mark.parametrize("bound", [False, True], ids=["unbound", "bound"])
@pytest.mark.parametrize("transport", [by_cookie, by_body])
def test_parallel_refreshes_all_get_the_same_token(
    server: str, ann: Any, counts: Counts, transport: Callable[[str], Request], bound: bool
) -> None:
    rounds, row = (ROUNDS // 10, "with a key") if bound else (ROUNDS // 2, "without")
    prover, held_up = Prover() if bound else None, 0
    for _ in range(rounds):
        held = sign_in(ann, prover)
        answers = together(server, *(held.proven(server, transport(held.refresh)) for _ in range(PARALLEL)))
        assert {answer.status for answer in answers} == {200}, {(answer.status, answer.code) for answer in answers}
        if max(answer.ended - answer.began for answer in answers) >= GRACE:
            held_up += 1  # past the grace period, on a busy machine: a late retry gets another token, not a refusal
            continue
        assert len({answer.refresh for answer in answers}) == 1
        assert held.row.generation == 1
    assert held_up <= max(1, ROUNDS // 20)
    counts.add("Parallel refreshes", f"{PARALLEL} at once, {row}", rounds=rounds, refreshes=PARALLEL * rounds)


def test_thief_without_the_key_gains_nothing_amid_the_owners_requests(server: str, ann: Any) -> None:
    owner, thief = Prover(), Prover()
    held = sign_in(ann, owner)
    request = by_cookie(held.refresh)
    own = [held.proven(server, request) for _ in range(PARALLEL // 2)]
    foreign = [proven(thief, server, request), request, me(held.access)]
    answers = together(server, *own, *foreign * 5)
    assert {answer.status for answer in answers[: len(own)]} == {200}
    assert {answer.status for answer in answers[len(own) :]} == {401}
    assert not any(answer.refresh or answer.clears_cookie for answer in answers[len(own) :])
    assert held.row.revoked_at is None


def end_request(end: str, held: Held, other: Held) -> Request:
    """Return the request that ends the session `held`, sent by itself or by the other session."""
    match end:
        case "logout":
            return log_out(held.access, held.refresh)
        case "logout everywhere":
            return Request("POST", "/auth/logout-all", access=held.access)
        case "blacklisting":
            return Request("POST", "/api/token/blacklist/", body={"refresh": held.refresh})
        case "revocation from elsewhere":
            return Request("DELETE", f"/api/sessions/{held.session.pk}/", access=other.access)
    return Request("POST", "/api/sessions/revoke-others/", access=other.access)


ENDS = ("logout", "logout everywhere", "blacklisting", "revocation from elsewhere", "revocation of the others")
"""The ways to end a session. No simultaneous request may survive them."""


class Load(Thread):
    """A client that refreshes and calls the API as fast as it can, until it is stopped."""

    def __init__(self, url: str, held: Held, stop: Event) -> None:
        super().__init__(daemon=True)
        self.url, self.held, self.stop = url, held, stop
        self.refresh, self.access = held.refresh, held.access
        self.answers: list[Answer] = []

    @property
    def last_began(self) -> float:
        return self.answers[-1].began if self.answers else 0

    def run(self) -> None:
        while not self.stop.is_set():
            for request in (by_cookie(self.refresh), me(self.access)):
                answer = send(self.url, self.held.proven(self.url, request))
                self.answers.append(answer)
                if answer.status == 200 and answer.refresh:
                    self.refresh, self.access = answer.refresh, answer.access


def wait_for_answers(clients: list[Load], number: int) -> None:
    """Wait until each client has had that many responses."""
    wait_until(lambda: all(len(client.answers) >= number for client in clients))


def wait_for_later_requests(clients: list[Load], moment: float) -> None:
    """Wait until each client has begun a request after that moment."""
    wait_until(lambda: all(client.last_began > moment for client in clients))


@pytest.mark.parametrize("end", ENDS)
def test_nothing_succeeds_after_an_acknowledged_end_under_load(server: str, ann: Any, counts: Counts, end: str) -> None:
    after = 0
    for number in range(LOGOUT_ROUNDS):
        prover = Prover() if number % 2 else None
        held, other = sign_in(ann, prover), sign_in(ann, prover)
        stop = Event()
        clients = [Load(server, held, stop) for _ in range(4)]
        for client in clients:
            client.start()
        wait_for_answers(clients, random.randint(1, 20))
        acknowledged = send(server, held.proven(server, end_request(end, held, other)))
        wait_for_later_requests(clients, acknowledged.ended)
        stop.set()
        for client in clients:
            client.join(60)
        assert acknowledged.status in (200, 204), (acknowledged.status, acknowledged.body)
        answers = [answer for client in clients for answer in client.answers]
        assert {answer.status for answer in answers} <= {200, 401}, {answer.status for answer in answers}
        late = [answer for answer in answers if answer.began > acknowledged.ended]
        assert {(answer.status, answer.code) for answer in late} <= {(401, "token_revoked")}
        after += len(late)
        # The last tokens of each client are refused too.
        for client in clients:
            for request in (by_cookie(client.refresh), me(client.access)):
                assert send(server, held.proven(server, request)).code == "token_revoked"
        assert held.row.revoked_at is not None
    assert after
    counts.add("Requests begun after an acknowledged end", end, rounds=LOGOUT_ROUNDS, refused=after, accepted=0)


class Race:
    """Runs two operations at the same moment, again and again, and compares the outcomes with the model."""

    def __init__(self, server: str, staff: str, state: str, pair: tuple[str, str]) -> None:
        self.server, self.staff, self.state, self.pair = server, staff, state, pair
        self.possible = possible(state, *pair)
        self.password = hashed()
        self.prover = Prover()
        self.seen: Counter[Outcome] = Counter()

    def run(self, rounds: int) -> None:
        while (left := rounds - self.seen.total()) > 0:
            began = monotonic()
            flight = self.fly(min(FLIGHT, left))
            if monotonic() - began < HELD_UP:
                self.check(flight)

    def fly(self, count: int) -> list[Round]:
        """Run that many pairs at once, each with its own user.

        Half of the sessions are bound to a key, and a thief has their tokens without it.
        """
        keys = {uuid4().hex: random.choice(("", self.prover.jkt)) for _ in range(count)}
        scenes = Scene.lay_all(self.state, self.password, keys)
        sent = [
            (number, place, self.prove(scene, request(scene, self.staff)))
            for number, scene in enumerate(scenes)
            for place, name in enumerate(self.pair)
            if (request := OPERATIONS[name].request)
        ]
        sent += [(number, THIEF, self.steal(scene)) for number, scene in enumerate(scenes) if scene.main.jkt]
        random.shuffle(sent)
        answers = together(
            self.server, *(request for _, _, request in sent), beside=prune if "prune" in self.pair else None
        )
        came = {(number, place): answer for (number, place, _), answer in zip(sent, answers, strict=True)}
        stolen = {(answer.status, answer.code) for (_, place), answer in came.items() if place == THIEF}
        assert stolen <= {(401, "dpop_proof_required"), (401, "dpop_key_mismatch"), (401, "token_revoked")}, stolen
        return [Round(scene, [came.get((number, place)) for place in (0, 1)]) for number, scene in enumerate(scenes)]

    def prove(self, scene: Scene, request: Request) -> Request:
        """Add the client's proof, if the scene's sessions are bound. A login begins an unbound one."""
        is_of_a_session = request.access != self.staff and request.path != "/auth/login"
        return proven(self.prover, self.server, request) if scene.main.jkt and is_of_a_session else request

    def steal(self, scene: Scene) -> Request:
        """Return a thief's request with a copied token, and with another key or none."""
        request = random.choice((by_cookie(refresh_token(scene.main, NEWEST)), me(access_token(scene.main))))
        return random.choice((request, proven(Prover(), self.server, request)))

    def check(self, flight: list[Round]) -> None:
        read(flight)
        for each in flight:
            self.seen[each.outcome] += 1
            if each.outcome not in self.possible:
                outcomes = "\n".join(map(str, self.possible))
                pytest.fail(f"{each.outcome}\nAll that may become of them:\n{outcomes}", pytrace=False)
        # For samples of the tokens, the server's answer agrees with the row.
        tokens = [random.choice(known) for each in flight[::4] if (known := list(each.tokens()))]
        verify = [Request("POST", "/api/token/verify/", body={"token": token}) for token, _ in tokens]
        answers = together(self.server, *verify)
        assert [answer.status for answer in answers] == [200 if is_good else 401 for _, is_good in tokens]


def prune() -> None:
    call_command("flushexpiredtokens", verbosity=0, stdout=StringIO())


@pytest.mark.parametrize("first", OPERATIONS)
def test_pairs_of_requests_are_serialisable(
    server: str, settings: Settings, counts: Counts, first: str, subtests: pytest.Subtests
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # as the server's
    manager: Any = get_user_model()._default_manager
    staff = sign_in(manager.create_superuser("root")).access
    counts.add("Pairs over HTTP", first, **dict.fromkeys(OPERATIONS, 0))  # so that the columns come in this order
    for pair in combinations_with_replacement(OPERATIONS, 2):
        if pair[0] != first or pair == ("prune", "prune"):
            continue
        rounds = ceil(PAIR_ROUNDS / len(states(*pair)))
        for state in states(*pair):
            with subtests.test(msg=f"{' + '.join(pair)}, {state}"):
                race = Race(server, staff, state, pair)
                race.run(rounds)
                for one, other in {pair, pair[::-1]}:
                    counts.add("Pairs over HTTP", one, **{other: rounds})
                counts.add(
                    "What became of pairs over HTTP",
                    f"session {state}",
                    rounds=rounds,
                    possible=len(race.possible),
                    seen=len(race.seen),
                )
