"""Processes are killed under load: no user is signed out, nothing acknowledged is lost, nothing is half done.

The database is a separate PostgreSQL that waits for the disk. The server runs as in production.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import sleep

import psutil
import pytest
from django.conf import settings
from django.db import connection

from tests.mailbox import wait_until
from tests.proof.counts import Counts
from tests.proof.postgres import DATABASE, Postgres, servers
from tests.proof.size import LONG
from tests.proof.wire import Answer, Request, by_cookie, log_out, me, send, send_and_hang_up
from tests.server import ROOT, free_port, serve

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is no server that could be killed")

PASSWORD = "correct horse battery staple"
CLIENTS = 4
ROUNDS = 10 if LONG else 1
LOAD = 50 if LONG else 10  # responses that each client has before the first crash and after the last
RECOVERY = 60  # seconds


class Person(Thread):
    """Signs in once, then refreshes and calls the API all the time, and again after a lost response or a 503."""

    def __init__(self, url: str, number: int, stop: Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.name = f"person{number}"
        self.answers: list[Answer] = []
        self.refresh, self.access = sign_in(url, self.name)

    def run(self) -> None:
        while not self.stop.is_set():
            answer = send(self.url, by_cookie(self.refresh))
            self._note(answer)
            if answer.status == 200:
                self.refresh, self.access = answer.refresh, answer.access
            self._note(send(self.url, me(self.access)))

    def _note(self, answer: Answer) -> None:
        self.answers.append(answer)
        if answer.status != 200:
            sleep(0.05)


class Visitor(Thread):
    """Signs in and out all the time, and remembers what was acknowledged."""

    def __init__(self, url: str, stop: Event) -> None:
        super().__init__(daemon=True)
        self.url, self.stop = url, stop
        self.answers: list[Answer] = []
        self.ended: list[tuple[str, str]] = []

    def run(self) -> None:
        while not self.stop.is_set():
            credentials = {"username": "visitor", "password": PASSWORD}
            answer = send(self.url, Request("POST", "/auth/login", body=credentials))
            self.answers.append(answer)
            if answer.status == 200:
                out = send(self.url, log_out(answer.access, answer.refresh))
                self.answers.append(out)
                if out.status == 204:
                    self.ended.append((answer.refresh, answer.access))
            else:
                sleep(0.05)


def sign_in(url: str, username: str) -> tuple[str, str]:
    answer = send(url, Request("POST", "/auth/register", body={"username": username, "password": PASSWORD}))
    assert answer.status == 201, answer
    return answer.refresh, answer.access


@contextmanager
def under_load(url: str) -> Iterator[tuple[list[Person], Visitor]]:
    stop = Event()
    sign_in(url, "visitor")
    people = [Person(url, number, stop) for number in range(CLIENTS)]
    visitor = Visitor(url, stop)
    try:
        for thread in (*people, visitor):
            thread.start()
        await_load(*people, visitor)
        yield people, visitor
        await_responses(people, 200)
        wait_until(lambda: visitor.ended)
        await_load(*people, visitor)
    finally:
        stop.set()
        for thread in (*people, visitor):
            thread.join(RECOVERY)


def await_load(*clients: Person | Visitor) -> None:
    """Wait until each client has had that many responses more."""
    seen = [len(client.answers) for client in clients]
    wait_until(lambda: all(len(client.answers) >= before + LOAD for client, before in zip(clients, seen, strict=True)))


def await_responses(people: list[Person], status: int) -> None:
    """Wait until each person has had one more response with that status; 0 means that none came."""
    seen = [len(person.answers) for person in people]
    wait_until(
        lambda: all(
            any(answer.status == status for answer in person.answers[before:])
            for person, before in zip(people, seen, strict=True)
        )
    )


def migrate(url: str) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "ENV_FILE": os.devnull,
        "SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": url,
    }
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity=0"], cwd=ROOT, env=environment, check=True
    )


def workers_of(url: str) -> list[psutil.Process]:
    """Return the worker processes of the server at that address."""
    return [worker for server in servers_at(url) for worker in server.children()]


def servers_at(url: str) -> list[psutil.Process]:
    port = url.rpartition(":")[2]
    return [
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE  # killed before
        and "gunicorn" in " ".join(process.cmdline())
        and process.environ().get("PORT") == port
    ]


def answers_to(people: list[Person], visitor: Visitor) -> list[Answer]:
    return [*visitor.answers, *(answer for person in people for answer in person.answers)]


def assert_all_is_well(url: str, database: Postgres, people: list[Person], visitor: Visitor) -> int:
    """Check that nobody was signed out and nothing is lost or half done; return the number of failed requests."""
    answers = answers_to(people, visitor)
    assert {answer.status for answer in answers} <= {0, 200, 204, 503}, {(a.status, a.code) for a in answers}
    for answer in answers:
        if answer.status == 503:
            assert answer.code == "unavailable"
            assert answer.retry_after
            assert (answer.cookie, answer.clears_cookie) == ("", False)
    for person in people:
        assert send(url, by_cookie(person.refresh)).status == 200
    for refresh, access in visitor.ended:
        assert send(url, by_cookie(refresh)).code == "token_revoked"
        assert send(url, me(access)).code == "token_revoked"
    half_made = database.execute(
        "SELECT count(*) FROM latchkey_session s FULL JOIN (SELECT * FROM latchkey_securityevent WHERE kind = 'login')"
        " e ON e.session = s.id WHERE e.id IS NULL OR s.id IS NULL"
    )
    half_ended = database.execute(
        "SELECT count(*) FROM latchkey_session s WHERE (revoked_at IS NULL) = EXISTS"
        " (SELECT FROM latchkey_securityevent e WHERE e.session = s.id AND e.kind = 'logout')"
    )
    assert (half_made, half_ended) == ([(0,)], [(0,)])
    return sum(answer.status in (0, 503) for answer in answers)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Postgres]:
    """Return a database with all tables and no rows. It is stopped, to be duplicated."""
    with servers() as (server, _):
        migrate(server.url)
        server.stop()
        yield server


@pytest.fixture
def database(prepared: Postgres) -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="test-", dir=prepared.folder.parent) as folder:
        Path(folder).chmod(0o755)
        with closing(prepared.duplicate(Path(folder, "a"))) as database:
            yield database


@pytest.fixture
def url(database: Postgres) -> Iterator[str]:
    with serve(database.url, WORKERS="2", THREADS="4", THROTTLING="off") as url:
        yield url


def test_killed_workers_cost_nobody_a_session(url: str, database: Postgres, counts: Counts) -> None:
    with under_load(url) as (people, visitor):
        for _ in range(ROUNDS):
            victims = workers_of(url)
            assert victims
            for worker in victims:
                worker.send_signal(signal.SIGKILL)
                await_responses(people, 200)
    failed = assert_all_is_well(url, database, people, visitor)
    note(counts, "the server's workers", people, visitor, failed)


def test_killed_postgresql_costs_nobody_a_session(url: str, database: Postgres, counts: Counts) -> None:
    with under_load(url) as (people, visitor):
        for _ in range(ROUNDS):
            database.kill()
            await_responses(people, 503)
            assert send(url, Request("GET", "/health/live")).status == 200
            assert send(url, Request("GET", "/health/ready")).status == 503
            assert send(url, by_cookie(people[0].refresh)).status == 503
            database.start()
            await_responses(people, 200)
    failed = assert_all_is_well(url, database, people, visitor)
    assert failed
    note(counts, "PostgreSQL", people, visitor, failed)


def test_killed_server_costs_nobody_a_session(database: Postgres, counts: Counts) -> None:
    start = partial(serve, PORT=str(free_port()), WORKERS="2", THREADS="4", THROTTLING="off")
    with ExitStack() as stack:
        url = stack.enter_context(start(database.url))
        with under_load(url) as (people, visitor):
            for _ in range(ROUNDS):
                for process in (*workers_of(url), *servers_at(url)):
                    process.send_signal(signal.SIGKILL)
                await_responses(people, 0)
                stack.enter_context(start(database.url))
                await_responses(people, 200)
        failed = assert_all_is_well(url, database, people, visitor)
    note(counts, "the whole server", people, visitor, failed)


def test_clients_that_hang_up_keep_their_sessions(url: str, database: Postgres, counts: Counts) -> None:
    refresh, _access = sign_in(url, "ann")
    times = 200 if LONG else 20
    for _ in range(times):
        send_and_hang_up(url, by_cookie(refresh))
    answer = send(url, by_cookie(refresh))
    assert answer.status == 200
    assert database.execute("SELECT generation FROM latchkey_session") == [(1,)]
    counts.add("Killed under load", "clients, after they had sent a refresh", kills=times, thrown_out=0)


def test_failover_to_a_standby_costs_nobody_a_session(database: Postgres, counts: Counts) -> None:
    standby = database.copy(database.folder.with_name("b"))
    both = f"postgresql://postgres@/{DATABASE}?host={database.folder},{standby.folder}&port=5432,5432"
    database_url = f"{both}&target_session_attrs=read-write"
    with closing(standby), serve(database_url, WORKERS="2", THREADS="4", THROTTLING="off") as url:
        with under_load(url) as (people, visitor):
            database.kill()
            await_responses(people, 503)
            standby.promote()
        failed = assert_all_is_well(url, standby, people, visitor)
        assert visitor.ended
    note(counts, "the primary database, its standby promoted", people, visitor, failed, kills=1)


def note(
    counts: Counts, what: str, people: list[Person], visitor: Visitor, failed: int, *, kills: int = ROUNDS
) -> None:
    requests = len(answers_to(people, visitor))
    counts.add(
        "Killed under load",
        what,
        kills=kills,
        requests=requests,
        failed=failed,
        acknowledged_logouts=len(visitor.ended),
        thrown_out=0,
    )
