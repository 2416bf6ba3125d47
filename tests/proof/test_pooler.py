"""PgBouncer between the server and PostgreSQL: each transaction gets any of a few connections."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from tests.proof.counts import Counts
from tests.proof.pooler import pooled
from tests.proof.size import LONG
from tests.proof.test_outages import (
    LIVE,
    ROUNDS,
    TIMEOUT,
    ask_at_once,
    assert_all_is_well,
    assert_unavailable,
    everything,
    execute,
    log_in,
    note,
    on_postgresql,
    reads,
    register,
    start,
)
from tests.proof.wire import Request, by_cookie, me, send, together
from tokens.models import Session

pytestmark = on_postgresql

CONNECTIONS = 2


@contextmanager
def pooler(**settings: str) -> Iterator[str]:
    """Run PgBouncer in front of the test database; yield the DATABASE_URL through it."""
    database = connection.settings_dict
    # A transaction's connection is reset before the next transaction.
    settings = {"server_reset_query_always": "1", **settings}
    with pooled(database["OPTIONS"]["host"], database["NAME"], CONNECTIONS, **settings) as (url, _):
        yield url


@contextmanager
def every_connection_taken(database_url: str) -> Iterator[None]:
    """Keep every connection of the pool busy with a transaction."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(psycopg.connect(database_url)).execute("SELECT")
        yield


@pytest.fixture
def elsewhere(transactional_db: None) -> Iterator[None]:
    """Set another time zone in the database, so a connection without the server's own would show."""
    database = connection.settings_dict["NAME"]
    execute(f"ALTER DATABASE {database} SET timezone = 'Asia/Tokyo'")
    yield
    execute(f"ALTER DATABASE {database} RESET timezone")


def test_transaction_pooling_changes_nothing(elsewhere: None, counts: Counts) -> None:
    ann = register("ann")
    with pooler() as database_url, start(database_url, THROTTLING="off") as url:
        for _ in range(ROUNDS):
            Session.objects.update(rotated_at=timezone.now() - timedelta(minutes=1))
            answers = together(url, *[by_cookie(ann.refresh)] * 50)
            assert {answer.status for answer in answers} == {200}, answers
            [ann.refresh] = {answer.refresh for answer in answers}
            ann.access = answers[0].access
        assert [send(url, request).status for request in reads(ann)] == [200] * 4
        [shown] = send(url, Request("GET", "/api/sessions/", access=ann.access)).body["results"]
        assert timezone.now() - datetime.fromisoformat(shown["lastUsedAt"]) < timedelta(minutes=1)
        assert_all_is_well(url, ann)
    note(counts, "PgBouncer, by transaction", ROUNDS * 50 + 8, 0)


@pytest.mark.parametrize("patience", [1, 120] if LONG else [120])
def test_exhausted_pool_is_503(transactional_db: None, counts: Counts, patience: int) -> None:
    """PgBouncer drops waiting clients after its own patience, if that is shorter than the server's."""
    ann = register("ann")
    asked = [by_cookie(ann.refresh), me(ann.access), log_in("ann"), Request("GET", "/health/ready")]
    with (
        pooler(query_wait_timeout=str(patience)) as database_url,
        start(database_url, THROTTLING="off", DATABASE_TIMEOUT=str(TIMEOUT)) as url,
    ):
        assert [answer.status for answer in ask_at_once(url, *[me(ann.access)] * 8)] == [200] * 8
        before = everything()
        with every_connection_taken(database_url):
            *answers, live = ask_at_once(url, *asked, LIVE)
        assert_unavailable(answers)
        assert live.status == 200
        assert everything() == before
        assert_all_is_well(url, ann)
    note(counts, "a pool that ran dry", len(asked) + 1, len(asked))
