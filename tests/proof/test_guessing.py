"""Simultaneous guesses at several processes: exactly as many are checked as the limit allows."""

import json
from collections.abc import Iterator, Mapping

import pytest
from django.db import connection

from accounts.factors import second_factor
from accounts.owner import registration
from tests.accounts.devices import Device
from tests.proof.counts import Counts
from tests.proof.size import LONG
from tests.proof.wire import Request, send, together
from tests.server import address_of_database, serve
from tokens.conf import DEFAULT_LIMITS
from tokens.models import SecurityEvent

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "correct horse battery staple"
PARALLEL = 200 if LONG else 80  # several times the threads of the server

Limits = Mapping[str, tuple[int, float]]

FIVE = pytest.param(
    {"login": (5, 60), "code": (5, 60)},
    id="five",
    marks=pytest.mark.skipif(connection.vendor == "sqlite" and not LONG, reason="one limit shows how SQLite counts"),
)


@pytest.fixture(scope="module", params=[pytest.param(DEFAULT_LIMITS, id="default"), FIVE])
def limits(request: pytest.FixtureRequest) -> Limits:
    limits: Limits = request.param
    return limits


@pytest.fixture(scope="module")
def server(django_db_setup: None, limits: Limits) -> Iterator[str]:
    with serve(
        address_of_database(),
        DJANGO_SETTINGS_MODULE="tests.settings_guessing",
        LIMITS=json.dumps(limits),
        WORKERS="4",
        THREADS="4",
    ) as url:
        yield url


def log_in(username: str, password: str, path: str = "/auth/login") -> Request:
    return Request("POST", path, body={"username": username, "password": password})


def checked(url: str, requests: list[Request]) -> int:
    """Send them all at once; return how many were checked, and expect 429 for the others."""
    answers = together(url, *requests)
    refused = [answer for answer in answers if answer.status == 429]
    assert all(answer.code == "throttled" and int(answer.retry_after) > 0 for answer in refused)
    assert {answer.status for answer in answers} == {401, 429}
    return len(answers) - len(refused)


def test_parallel_guesses_of_a_password_are_counted_exactly(server: str, limits: Limits, counts: Counts) -> None:
    registration.register("ann", PASSWORD)
    tries, _ = limits["login"]
    for name in ("ann", "nobody"):
        transports, spellings = ("/auth/login", "/api/token/"), (name, name.upper())
        guesses = [log_in(spelling, "guess", path) for path in transports for spelling in spellings]
        assert checked(server, guesses * (PARALLEL // 4)) == tries
        assert send(server, log_in(name, PASSWORD)).status == 429
        counts.add("Parallel guesses", f"passwords of {name}, limit {tries}", tried=PARALLEL, checked=tries)
    assert list(SecurityEvent.objects.filter(kind="login_failed").values_list("count", flat=True)) == [tries]


def test_parallel_guesses_of_a_code_are_counted_exactly(server: str, limits: Limits, counts: Counts) -> None:
    session = registration.register("ann", PASSWORD)
    secret, _ = second_factor.enrol(session, PASSWORD)
    device = Device(secret)
    second_factor.enable(session, device.code())
    tries, _ = limits["code"]
    challenges = [send(server, log_in("ann", PASSWORD)).body["challenge"] for _ in range(2)]
    guesses = [
        Request("POST", path, body={"challenge": challenge, "code": device.wrong()})
        for path in ("/auth/login/second-factor", "/api/token/second-factor/")
        for challenge in challenges
    ]
    assert checked(server, guesses * (PARALLEL // 4)) == tries
    assert SecurityEvent.objects.filter(kind="second_factor_failed").count() == tries
    counts.add("Parallel guesses", f"codes of ann, limit {tries}", tried=PARALLEL, checked=tries)
