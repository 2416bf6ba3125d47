"""Two ways to race: in threads that start together, and with a function that runs just before a statement."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from time import monotonic, sleep
from typing import Any

import pytest
from django.db import connection

from tests.sql import parts
from tokens.domain import outages


def in_parallel(*acts: Callable[[], Any]) -> list[Any]:
    """Call the functions in threads that start together; return what each returned or raised.

    Nothing is retried: a deadlock is a defect, which a retry would hide.
    """
    barrier = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=60)
            return act()
        except Exception as error:  # noqa: BLE001 (the test checks any exception)
            return error
        finally:
            connection.close()

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(acts)) as pool:
        patch.setattr(outages, "PAUSES", ())
        return list(pool.map(run, acts))


@contextmanager
def just_before(statement: str, act: Callable[[], Any]) -> Iterator[None]:
    """Call the function once, before the first SQL statement of that kind.

    `statement` is its verb and, if that matters, its table: `UPDATE "latchkey_session"`.
    """
    (wanted,) = parts(statement)
    done = False

    def slip_in(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal done
        if not done and any(part.is_a(wanted) for part in parts(sql)):
            done = True
            act()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(slip_in):
        yield
    assert done, f"nothing was sent that is {statement}"


def await_somebody_who_waits() -> None:
    """Wait until another connection to the test database, a PostgreSQL, waits for a lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = monotonic() + 30
    with connection.cursor() as cursor:
        while not cursor.execute(waiting).rowcount:
            assert monotonic() < deadline
            sleep(0.02)
            cursor.execute("SELECT pg_stat_clear_snapshot()")
