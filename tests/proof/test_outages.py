"""While the database can't do its work, the server responds 503, signs nobody out and leaves nothing half done.

Afterwards, the same server continues. The server runs as in production, and the failures are real: PostgreSQL, SQLite,
the disk, the network.
"""

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from accounts.owner import registration
from tests.proof.counts import Counts
from tests.proof.postgres import servers
from tests.proof.proxy import Proxy
from tests.proof.size import LONG
from tests.proof.test_crashes import migrate, workers_of
from tests.proof.wire import Answer, Request, by_body, by_cookie, log_out, me, send, together
from tests.racing import in_parallel
from tests.server import serve
from tokens.models import SecurityEvent, Session
from tokens.tokens import AccessToken, RefreshToken

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="what fails is PostgreSQL's")
on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="what fails is SQLite's")

PASSWORD = "correct horse battery staple"
TIMEOUT = settings.DATABASE_TIMEOUT if LONG else 2  # seconds
LATE = 30  # seconds that an overloaded database takes to respond
PATIENCE = 60  # seconds, which pass only if something hangs
ROUNDS = 20 if LONG else 3
WORKERS = 2


@dataclass
class Person:
    """A signed-in user."""

    name: str
    refresh: str
    access: str


def register(username: str) -> Person:
    session = registration.register(username, PASSWORD)
    return Person(username, str(RefreshToken.of(session)), str(AccessToken.of(session)))


def start(database_url: str, **environment: str) -> AbstractContextManager[str]:
    """Run the server, which accepts the tokens that this process makes."""
    # One thread more than the requests that wait in a test, so /health/live finds one in any process.
    return serve(database_url, None, PUBLIC_URL=settings.PUBLIC_URL, WORKERS=str(WORKERS), THREADS="5", **environment)


def log_in(username: str, password: str = PASSWORD) -> Request:
    return Request("POST", "/auth/login", body={"username": username, "password": password})


def writes(person: Person) -> list[Request]:
    """Return requests that have to write to the database."""
    changes = {"currentPassword": PASSWORD, "newPassword": "the analytical engine"}
    return [
        by_cookie(person.refresh),
        by_body(person.refresh),
        log_in(person.name),
        log_in(person.name, "wrong"),
        log_in("nobody"),
        Request("POST", "/auth/register", body={"username": f"{person.name}2", "password": PASSWORD}),
        Request("POST", "/auth/password/change", access=person.access, body=changes),
        Request("POST", "/auth/password/reset", body={"email": "ann@example.com"}),
        Request("POST", "/api/token/blacklist/", body={"refresh": person.refresh}),
        Request("POST", "/auth/logout-all", access=person.access),
        log_out(person.access, person.refresh),
    ]


def reads(person: Person) -> list[Request]:
    return [
        me(person.access),
        Request("GET", "/api/sessions/", access=person.access),
        Request("POST", "/api/token/verify/", body={"token": person.access}),
        Request("GET", "/health/ready"),
    ]


LIVE = Request("GET", "/health/live")


def everything() -> list[Any]:
    return [*Session.objects.order_by("pk").values_list(), *SecurityEvent.objects.order_by("pk").values_list()]


def assert_unavailable(answers: list[Answer]) -> None:
    for answer in answers:
        assert (answer.status, answer.code, answer.retry_after) == (503, "unavailable", "5"), answer
        assert (answer.cookie, answer.clears_cookie) == ("", False)


def assert_writes_fail_and_reads_do_not(url: str, person: Person) -> int:
    """Return the number of requests."""
    before = everything()
    assert_unavailable([send(url, request) for request in writes(person)])
    assert [send(url, request).status for request in [*reads(person), LIVE]] == [200] * 5
    assert everything() == before
    return len([*writes(person), *reads(person), LIVE])


def assert_all_is_well(url: str, person: Person) -> None:
    """Check that the person's tokens are valid and that the server works."""
    answer = send(url, by_cookie(person.refresh))
    assert answer.status == 200, answer
    assert [send(url, request).status for request in (me(answer.access), log_in(person.name))] == [200, 200]
    assert Session.objects.filter(revoked_at=None).count() == 2


def ask_at_once(url: str, *requests: Request) -> list[Answer]:
    return in_parallel(*(partial(send, url, request) for request in requests))


def note(counts: Counts, what: str, requests: int, unavailable: int) -> None:
    counts.add("Outages", what, requests=requests, unavailable=unavailable, other_server_errors=0, thrown_out=0)


# PostgreSQL


@dataclass
class Site:
    """A server, its database, in which it is not a superuser, and the proxy between them."""

    url: str
    proxy: Proxy
    role: str
    database: str

    def set(self, setting: str) -> None:
        """Set a default of the database, and make the server connect again."""
        execute(f"ALTER DATABASE {self.database} {setting}")
        self.disconnect()

    def disconnect(self) -> None:
        execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{self.role}'")


@pytest.fixture(scope="module")
def role(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Create a user of the database, who may do what the server does."""
    role = f"app_of_{connection.settings_dict['NAME']}"
    with django_db_blocker.unblock():
        execute(f"CREATE ROLE {role} LOGIN")
        execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    yield role
    with django_db_blocker.unblock():
        execute(f"DROP OWNED BY {role}")
        execute(f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def sites(role: str) -> Iterator[Callable[[int], Site]]:
    """Start a server for each timeout, in seconds."""
    database = str(connection.settings_dict["NAME"])
    socket = f"{connection.settings_dict['OPTIONS']['host']}/.s.PGSQL.5432"
    with ExitStack() as started:

        @cache
        def site(timeout: int) -> Site:
            proxy = started.enter_context(closing(Proxy(socket)))
            address = f"postgresql://{role}@127.0.0.1:{proxy.port}/{database}"
            server = start(address, THROTTLING="off", DATABASE_TIMEOUT=str(timeout))
            return Site(started.enter_context(server), proxy, role, database)

        yield site


@pytest.fixture
def timeout() -> int:
    """Seconds that the server waits; long, unless a test is about the timeout."""
    return 20


impatient = pytest.mark.parametrize("timeout", [TIMEOUT])


@pytest.fixture
def site(transactional_db: None, sites: Callable[[int], Site], timeout: int) -> Iterator[Site]:
    site = sites(timeout)
    yield site
    execute(f"ALTER ROLE {site.role} CONNECTION LIMIT -1")
    site.set("RESET ALL")


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def beside() -> Iterator[psycopg.Connection[Any]]:
    """Connect as another client of the database, in a transaction."""
    database = connection.settings_dict
    with psycopg.connect(f"postgresql://postgres@/{database['NAME']}?host={database['OPTIONS']['host']}") as somebody:
        yield somebody


@on_postgresql
def test_reads_work_on_a_read_only_database(site: Site, counts: Counts) -> None:
    ann = register("ann")
    site.set("SET default_transaction_read_only = on")
    requests = assert_writes_fail_and_reads_do_not(site.url, ann)
    site.set("RESET default_transaction_read_only")
    assert_all_is_well(site.url, ann)
    note(counts, "a read-only database", requests, len(writes(ann)))


@on_postgresql
def test_first_use_is_503_on_a_read_only_database(site: Site) -> None:
    """If the use were not written, a late retry would take the token for one that never arrived."""
    ann = register("ann")
    answer = send(site.url, by_cookie(ann.refresh))
    site.set("SET default_transaction_read_only = on")
    assert_unavailable([send(site.url, me(answer.access))])
    site.set("RESET default_transaction_read_only")
    assert send(site.url, me(answer.access)).status == 200


@on_postgresql
def test_database_without_free_connections_is_503(site: Site, timeout: int, counts: Counts) -> None:
    ann, before = register("ann"), everything()
    execute(f"ALTER ROLE {site.role} CONNECTION LIMIT 0")
    site.disconnect()
    asked = [*writes(ann), *reads(ann)]
    answers = [send(site.url, request) for request in asked]
    assert_unavailable(answers)
    assert max(answer.ended - answer.began for answer in answers) < timeout  # no request waits for a connection
    assert send(site.url, LIVE).status == 200
    assert everything() == before
    execute(f"ALTER ROLE {site.role} CONNECTION LIMIT -1")
    assert_all_is_well(site.url, ann)
    note(counts, "no connection left", len(asked) + 1, len(asked))


@on_postgresql
@impatient
@pytest.mark.parametrize("delay", [None, LATE] if LONG else [None])
def test_slow_database_is_503_after_the_timeout(site: Site, counts: Counts, delay: int | None) -> None:
    """The responses come too late, or never."""
    ann = register("ann")
    assert [answer.status for answer in ask_at_once(site.url, *[me(ann.access)] * 8)] == [200] * 8
    ready, rounds = Request("GET", "/health/ready"), 5 if LONG and not delay else 1
    for _ in range(rounds):
        with site.proxy.holding_back(delay):
            *answers, live = ask_at_once(site.url, by_cookie(ann.refresh), me(ann.access), log_in("ann"), ready, LIVE)
            if delay:
                assert max(answer.ended - answer.began for answer in answers) < delay
                sleep(delay)  # until every response has arrived, at a connection that nobody reads
        assert_unavailable(answers)
        assert live.status == 200
    assert send(site.url, by_cookie(ann.refresh)).status == 200
    assert Session.objects.filter(revoked_at=None).count() >= 1
    note(counts, "answers that come too late", 5 * rounds, 4 * rounds)


@on_postgresql
@impatient
def test_locked_row_delays_no_other_session(site: Site, counts: Counts) -> None:
    ann, bob = register("ann"), register("bob")
    with beside() as somebody:
        somebody.execute("SELECT FROM latchkey_session ORDER BY id LIMIT 1 FOR UPDATE")
        stuck, free, read = ask_at_once(site.url, by_cookie(ann.refresh), by_cookie(bob.refresh), me(ann.access))
        assert (free.status, read.status) == (200, 200)
        assert_unavailable([stuck])
    assert send(site.url, by_cookie(ann.refresh)).status == 200
    note(counts, "a row that is locked", 3, 1)


@on_postgresql
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_serialization_failures_are_tried_again(site: Site, counts: Counts, level: str) -> None:
    ann = register("ann")
    site.set(f"SET default_transaction_isolation = '{level}'")
    token = ann.refresh
    for _ in range(ROUNDS):
        Session.objects.update(rotated_at=timezone.now() - timedelta(minutes=1))
        with beside() as somebody:
            somebody.execute("SELECT FROM latchkey_session FOR UPDATE")
            answers, _ = in_parallel(
                partial(together, site.url, *[by_cookie(token)] * 50), partial(let_go_once_all_wait, site, somebody)
            )
        assert {answer.status for answer in answers} == {200}, answers
        [token] = {answer.refresh for answer in answers}
        assert send(site.url, me(answers[0].access)).status == 200
    for _ in range(ROUNDS):
        access = send(site.url, log_in("ann")).access
        end = Request("POST", "/auth/logout-all", access=access)
        answers = together(site.url, log_in("ann"), end, log_in("ann"))
        assert [answer.status for answer in answers] == [200, 204, 200], answers
    note(counts, f"{level} transactions", ROUNDS * 56, 0)


@on_postgresql
def test_deadlock_is_tried_again(site: Site, counts: Counts) -> None:
    ann = register("ann")
    assert send(site.url, log_in("ann")).status == 200
    first, second = Session.objects.order_by("pk").values_list("pk", flat=True)
    with beside() as somebody:
        somebody.execute("SET deadlock_timeout = '60s'")  # so the server's transaction is the one that fails
        lock = "SELECT FROM latchkey_session WHERE id = %s FOR UPDATE"
        somebody.execute(lock, [second])

        def lock_the_other_way_round() -> None:
            await_waiting(site)
            somebody.execute(lock, [first])
            somebody.rollback()

        answer, _ = in_parallel(
            lambda: send(site.url, Request("POST", "/auth/logout-all", access=ann.access)), lock_the_other_way_round
        )
    assert answer.status == 204, answer
    assert send(site.url, me(ann.access)).code == "token_revoked"
    note(counts, "a deadlock", 1, 0)


def let_go_once_all_wait(site: Site, somebody: psycopg.Connection[Any]) -> None:
    await_waiting(site, 4)
    somebody.rollback()


def await_waiting(site: Site, number: int = 1) -> None:
    """Wait until that many of the server's threads wait for a lock."""
    deadline = monotonic() + PATIENCE
    while waiting(site) < number:
        assert monotonic() < deadline
        sleep(0.02)


def waiting(site: Site) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'", [site.role]
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with TemporaryDirectory(prefix="latchkey-disk-") as path:
        Path(path).chmod(0o755)  # PostgreSQL does not run as root
        mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", path]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("PostgreSQL's full disk was not tried: it takes root, who may mount a small one.")
        try:
            yield Path(path)
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> Path:
    """Return a file that fills the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, psutil.disk_usage(str(disk)).free)
    return ballast


@on_postgresql
@pytest.mark.skipif(not LONG, reason="part of make proof")
def test_full_disk_of_postgresql_is_503(small_disk: Path, counts: Counts) -> None:
    with servers(small_disk) as (server, _):
        migrate(server.url)
        with serve(server.url, WORKERS="2", THREADS="4", THROTTLING="off") as url:
            answer = send(url, Request("POST", "/auth/register", body={"username": "ann", "password": PASSWORD}))
            ann = Person("ann", answer.refresh, answer.access)
            ballast = fill(small_disk)
            # The tables' last pages have room left.
            answers = (send(url, log_in("ann")) for _ in range(500))
            signed_in = len([*takewhile(lambda answer: answer.status == 200, answers)])
            refused = [send(url, log_in("ann")) for _ in range(3)]
            assert_unavailable(refused)
            assert [send(url, request).status for request in [*reads(ann), LIVE]] == [200] * 5
            # A refresh changes its row in place, while there is room in the page.
            assert_unavailable([answer for answer in [send(url, by_cookie(ann.refresh))] if answer.status != 200])
            assert server.execute("SELECT count(*) FROM latchkey_session WHERE revoked_at IS NULL") == [
                (signed_in + 1,)
            ]
            ballast.unlink()
            assert send(url, log_in("ann")).status == 200
            assert send(url, by_cookie(ann.refresh)).status == 200
    note(counts, "a full disk", signed_in + 9, 4)


@on_postgresql
@pytest.mark.skipif(not LONG, reason="part of make proof")
def test_postgresql_stopped_by_a_full_wal_disk_is_503(small_disk: Path, counts: Counts) -> None:
    with servers() as (server, _):
        migrate(server.url)
        server.close()
        log = server.folder / "data" / "pg_wal"
        subprocess.run(["cp", "-a", log, small_disk], check=True)
        shutil.rmtree(log)
        log.symlink_to(small_disk / "pg_wal")
        server.start()
        with serve(server.url, WORKERS="2", THREADS="4", THROTTLING="off") as url:
            answer = send(url, Request("POST", "/auth/register", body={"username": "ann", "password": PASSWORD}))
            ann = Person("ann", answer.refresh, answer.access)
            ballast = fill(small_disk)
            with pytest.raises(psycopg.OperationalError):
                # As if another client wrote a lot: the last file fills up.
                server.execute("SELECT count(pg_logical_emit_message(false, '', '')) FROM generate_series(1, 10000000)")
            assert "PANIC" in (server.folder / "log").read_text()
            asked = [*writes(ann), *reads(ann)]
            assert_unavailable([send(url, request) for request in asked])
            assert send(url, LIVE).status == 200
            ballast.unlink()
            server.close()  # unless it has given up by itself
            server.start()
            assert server.execute("SELECT count(*) FROM latchkey_session WHERE revoked_at IS NULL") == [(1,)]
            assert [send(url, request).status for request in reads(ann)] == [200] * 4
            assert [send(url, request).status for request in (log_in("ann"), by_cookie(ann.refresh))] == [200] * 2
    note(counts, "no room for PostgreSQL's log", len(asked) + 8, len(asked))


# SQLite


@pytest.fixture
def file(transactional_db: None) -> Path:
    return Path(connection.settings_dict["NAME"])


@on_sqlite
@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits a process from outside")
def test_full_disk_of_sqlite_is_503(file: Path, counts: Counts) -> None:
    ann = register("ann")
    with start(f"sqlite:///{file}", THROTTLING="off") as url:
        # Limiting these processes needs no special rights.
        with full_disk_for(both_workers_of(url)):
            requests = assert_writes_fail_and_reads_do_not(url, ann)
        assert_all_is_well(url, ann)
    note(counts, "a full disk", requests, len(writes(ann)))


def both_workers_of(url: str) -> list[psutil.Process]:
    """Wait for the second worker too: the server responds as soon as the first is ready."""
    while len(workers := workers_of(url)) < WORKERS:
        sleep(0.05)
    return workers


@contextmanager
def full_disk_for(processes: list[psutil.Process]) -> Iterator[None]:
    """Prevent the processes from writing to any file."""
    former = [(process, process.rlimit(resource.RLIMIT_FSIZE)) for process in processes]
    assert former
    try:
        for process, (_, hard) in former:
            process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
        yield
    finally:
        for process, limits in former:
            process.rlimit(resource.RLIMIT_FSIZE, limits)


@on_sqlite
def test_reads_work_on_a_read_only_file(file: Path, counts: Counts) -> None:
    ann = register("ann")
    with start(f"sqlite:///{file}?init_command={quote('PRAGMA query_only = ON')}", THROTTLING="off") as url:
        requests = assert_writes_fail_and_reads_do_not(url, ann)
    with start(f"sqlite:///{file}", THROTTLING="off") as url:
        assert_all_is_well(url, ann)
    note(counts, "a read-only database", requests, len(writes(ann)))


@on_sqlite
def test_locked_sqlite_file_is_503_after_the_timeout(file: Path, counts: Counts) -> None:
    ann = register("ann")
    with start(f"sqlite:///{file}", THROTTLING="off", DATABASE_TIMEOUT=str(TIMEOUT)) as url:
        with closing(sqlite3.connect(file, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            *answers, read, live = ask_at_once(
                url, by_cookie(ann.refresh), log_in("ann"), log_in("nobody"), me(ann.access), LIVE
            )
        assert_unavailable(answers)
        assert (read.status, live.status) == (200, 200)
        assert_all_is_well(url, ann)
    note(counts, "a file that is locked", 5, 3)
