"""Functions whose transaction the database gave up in favour of another are called again."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F

from tokens.domain import sessions
from tokens.domain.outages import describe, retried
from tokens.exceptions import TokenReused
from tokens.models import Session
from tokens.signals import token_reused
from tokens.tokens import RefreshToken

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such errors"),
]


class Act:
    """A function that fails that often, with an error of PostgreSQL."""

    def __init__(self, sqlstate: str, failures: int) -> None:
        self.sqlstate, self.failures = sqlstate, failures
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            with connection.cursor() as cursor:
                cursor.execute(f"DO $$ BEGIN RAISE 'somebody was faster' USING ERRCODE = '{self.sqlstate}'; END $$")
        return "done"


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("failures", [0, 1, 2])
def test_aborted_transaction_is_retried(sqlstate: str, failures: int) -> None:
    act = Act(sqlstate, failures)
    assert retried(act)() == "done"
    assert act.tries == failures + 1


def test_transaction_is_tried_three_times_at_most() -> None:
    act = Act("40001", failures=3)
    with pytest.raises(OperationalError):
        retried(act)()
    assert act.tries == 3


@pytest.mark.parametrize(("sqlstate", "error"), [("57014", OperationalError), ("23505", IntegrityError)])
def test_other_errors_are_not_retried(sqlstate: str, error: type[Exception]) -> None:
    act = Act(sqlstate, failures=1)
    with pytest.raises(error):
        retried(act)()
    assert act.tries == 1


def test_only_whole_transactions_are_retried() -> None:
    act = Act("40001", failures=1)

    @retried
    def whole() -> str:
        with transaction.atomic():
            return retried(act)()

    assert whole() == "done"
    assert act.tries == 2
    act.tries = 0
    with pytest.raises(OperationalError), transaction.atomic():
        retried(act)()
    assert act.tries == 1


def test_theft_is_announced_although_a_receiver_failed_once(ann: Any) -> None:
    session = sessions.start(ann)
    stolen = dict(RefreshToken.of(session).payload)
    for _ in range(2):
        session = sessions.rotate(dict(RefreshToken.of(session).payload))
        Session.objects.update(rotated_at=F("rotated_at") - timedelta(minutes=1))
        session.refresh_from_db()
    act = Act("40P01", failures=1)

    def hear(**kwargs: Any) -> None:
        act()

    token_reused.connect(hear)
    try:
        with pytest.raises(TokenReused):
            sessions.rotate(stolen)
    finally:
        token_reused.disconnect(hear)
    assert act.tries == 2


def test_error_log_names_the_failure_and_no_row() -> None:
    with pytest.raises(OperationalError) as caught, connection.cursor() as cursor:
        cursor.execute("DO $$ BEGIN RAISE 'full' USING ERRCODE = '53100', DETAIL = 'the row of ann'; END $$")
    assert describe(caught.value) == "53100: full"
    assert describe(OperationalError("gone")) == "OperationalError: gone"
