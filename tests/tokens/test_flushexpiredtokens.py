import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.racing import in_parallel, just_before
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.usefixtures("clock")

START = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
YEAR = timedelta(days=365)
SECOND = timedelta(seconds=1)

NOTHING = "Deleted 0 expired sessions and 0 old security events.\n"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def flush(*arguments: str, out: StringIO | None = None) -> str:
    """Run the command; return what it printed."""
    out = out or StringIO()
    call_command("flushexpiredtokens", *arguments, stdout=out)
    return out.getvalue()


def result(*arguments: str) -> str:
    return flush(*arguments).splitlines()[-1]


def test_session_is_deleted_once_expired_and_not_before(ann: Any, clock: TimeMachineFixture) -> None:
    session = sessions.start(ann)
    clock.move_to(session.expires_at - SECOND)
    assert result() == "Deleted 0 expired sessions and 0 old security events."
    clock.move_to(session.expires_at)
    assert result() == "Deleted 1 expired session and 0 old security events."
    assert not Session.objects.exists()


def test_active_session_stays_among_expired_ones(ann: Any, clock: TimeMachineFixture) -> None:
    for _ in range(3):
        sessions.start(ann)
    clock.shift(WEEK - SECOND)
    live = sessions.start(ann)
    clock.shift(SECOND)
    assert result() == "Deleted 3 expired sessions and 0 old security events."
    assert Session.objects.get() == live


def test_revoked_session_stays_until_it_expires(ann: Any, clock: TimeMachineFixture) -> None:
    session = sessions.start(ann)
    sessions.revoke(session, Reason.LOGOUT)
    clock.move_to(session.expires_at - SECOND)
    flush()
    assert Session.objects.get() == session
    clock.move_to(session.expires_at)
    flush()
    assert not Session.objects.exists()


def test_expired_session_is_kept_for_the_given_days(ann: Any, clock: TimeMachineFixture) -> None:
    session = sessions.start(ann)
    clock.move_to(session.expires_at + timedelta(days=2) - SECOND)
    flush("--keep", "2")
    assert Session.objects.get() == session
    clock.shift(SECOND)
    flush("--keep", "2")
    assert not Session.objects.exists()


@pytest.mark.parametrize("days", [30_000, 999_999_999])
def test_very_long_retention_keeps_everything(ann: Any, clock: TimeMachineFixture, days: int) -> None:
    sessions.start(ann)
    clock.shift(YEAR - SECOND)
    assert flush("--keep", str(days)) == NOTHING


def test_security_events_are_deleted_after_their_lifetime(ann: Any, clock: TimeMachineFixture) -> None:
    sessions.start(ann)
    clock.shift(YEAR - SECOND)
    assert result() == "Deleted 1 expired session and 0 old security events."
    clock.shift(SECOND)
    assert result() == "Deleted 0 expired sessions and 1 old security event."
    assert not SecurityEvent.objects.exists()


def test_security_event_lifetime_is_a_setting(ann: Any, clock: TimeMachineFixture, settings: Settings) -> None:
    settings.TOKENS_EVENT_LIFETIME = WEEK
    sessions.start(ann)
    clock.shift(WEEK)
    assert result() == "Deleted 1 expired session and 1 old security event."


def test_security_events_can_be_kept_for_ever(ann: Any, clock: TimeMachineFixture, settings: Settings) -> None:
    settings.TOKENS_EVENT_LIFETIME = timedelta.max
    sessions.start(ann)
    clock.shift(10 * YEAR)
    assert result() == "Deleted 1 expired session and 0 old security events."


def test_dry_run_counts_and_deletes_nothing(ann: Any, clock: TimeMachineFixture) -> None:
    for _ in range(3):
        sessions.start(ann)
    clock.shift(YEAR)
    assert result("--dry-run", "--batch-size=2") == "Would delete 3 expired sessions and 3 old security events."
    assert (Session.objects.count(), SecurityEvent.objects.count()) == (3, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 100_000])
def test_any_batch_size_deletes_everything(ann: Any, clock: TimeMachineFixture, size: int) -> None:
    for _ in range(6):
        sessions.start(ann)
        clock.shift(SECOND)
    clock.shift(YEAR)
    assert result(f"--batch-size={size}") == "Deleted 6 expired sessions and 6 old security events."
    assert (Session.objects.count(), SecurityEvent.objects.count()) == (0, 0)


def test_rows_are_deleted_by_range_one_transaction_each(ann: Any, clock: TimeMachineFixture) -> None:
    for _ in range(4):
        sessions.start(ann)
    clock.shift(WEEK)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        flush("--batch-size=2")
    statements = [query["sql"] for query in captured if '"latchkey_session"' in query["sql"]]
    assert [statement.split()[0] for statement in statements] == [
        "SELECT",  # the first key
        *["SELECT", "DELETE"] * 2,  # the range's last key, and the range
        *["SELECT", "DELETE"],  # what is left: nothing
    ]
    assert not [statement for statement in statements if "secret" in statement]
    assert [query["sql"].split()[0] for query in captured].count("SAVEPOINT") == 3


def test_rows_too_young_to_have_expired_are_not_scanned(ann: Any, clock: TimeMachineFixture) -> None:
    sessions.start(ann)
    with CaptureQueriesContext(connection) as captured:
        assert flush("--keep=1") == NOTHING
    # The sessions, the events, the feed of ended sessions, the tokens of SimpleJWT's.
    assert [query["sql"].split()[0] for query in captured] == ["SELECT"] * 4


# What it prints


@pytest.fixture
def week(ann: Any, clock: TimeMachineFixture) -> None:
    """Create seven sessions, a day apart. Almost ten days after the first, three have expired."""
    for _ in range(7):
        sessions.start(ann)
        clock.shift(DAY)
    clock.shift(3 * DAY - SECOND)


def test_progress_is_printed_at_each_tenth(week: None) -> None:
    assert flush("--batch-size=1").splitlines() == [
        " 10% of the sessions, 2 deleted",
        " 20% of the sessions, 3 deleted",
        " 30% of the sessions, 3 deleted",
        " 40% of the sessions, 3 deleted",
        " 50% of the sessions, 3 deleted",
        " 60% of the sessions, 3 deleted",
        "100% of the sessions, 3 deleted",
        "Deleted 3 expired sessions and 0 old security events.",
    ]


def test_tenths_passed_in_one_step_are_printed_once(week: None) -> None:
    assert flush("--batch-size=5", "--dry-run").splitlines() == [
        " 40% of the sessions, 3 found",
        "100% of the sessions, 3 found",
        "Would delete 3 expired sessions and 0 old security events.",
    ]


def test_terminal_gets_a_progress_bar(week: None) -> None:
    steps = flush("--batch-size=5", out=Terminal()).split("\r")
    assert steps == [
        "",
        f"[{'#' * 16}{'.' * 24}]  40% of the sessions, 3 deleted",
        f"[{'#' * 40}] 100% of the sessions, 3 deleted\nDeleted 3 expired sessions and 0 old security events.\n",
    ]


def test_quiet_run_prints_only_the_result(ann: Any, clock: TimeMachineFixture) -> None:
    sessions.start(ann)
    clock.shift(WEEK)
    assert flush("--verbosity=0") == "Deleted 1 expired session and 0 old security events.\n"


# Failures


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch-size=0"], "--batch-size must be from 1 to 100000, not 0."),
        (["--batch-size=100001"], "--batch-size must be from 1 to 100000, not 100001."),
        (["--keep=-1"], "--keep must be a number of days, 0 or more, not -1."),
        (["--keep=1000000000"], "--keep must be a number of days, 0 or more, not 1000000000."),
        (["--keep=soon"], "Error: argument --keep: invalid int value: 'soon'"),
    ],
)
def test_argument_out_of_range_is_refused(
    ann: Any, clock: TimeMachineFixture, arguments: list[str], sentence: str
) -> None:
    sessions.start(ann)
    clock.shift(YEAR)
    with pytest.raises(CommandError, match=f"^{re.escape(sentence)}$"):
        flush(*arguments)
    assert Session.objects.exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Make Ctrl-C interrupt, even if a shell started the tests in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("out", [StringIO(), Terminal()])
def test_interruption_rolls_back_one_batch_and_reports_the_rest(
    django_user_model: Any, clock: TimeMachineFixture, out: StringIO
) -> None:
    ann = django_user_model._default_manager.create_user("ann")
    for _ in range(3):
        sessions.start(ann)
    clock.shift(YEAR)
    with (
        pytest.raises(CommandError, match=r"^Interrupted\. Deleted 3 expired sessions and 0 old") as stopped,
        just_before('DELETE FROM "latchkey_securityevent"', lambda: signal.raise_signal(signal.SIGINT)),
    ):
        flush(out=out)
    assert stopped.value.returncode == 130
    assert (Session.objects.count(), SecurityEvent.objects.count()) == (0, 3)
    assert result() == "Deleted 0 expired sessions and 3 old security events."


@pytest.mark.django_db(transaction=True)
def test_two_parallel_runs_share_the_work(django_user_model: Any, clock: TimeMachineFixture) -> None:
    ann = django_user_model._default_manager.create_user("ann")
    for _ in range(40):
        sessions.start(ann)
    clock.shift(YEAR)
    printed = in_parallel(*[lambda: result("--batch-size=3")] * 4)
    counts = [re.findall(r"\d+", line) for line in printed]
    assert [sum(map(int, column)) for column in zip(*counts, strict=True)] == [40, 40]
    assert (Session.objects.count(), SecurityEvent.objects.count()) == (0, 0)


def impatient() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")
    return result()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks no single rows")
def test_locked_row_is_skipped(django_user_model: Any, clock: TimeMachineFixture) -> None:
    ann = django_user_model._default_manager.create_user("ann")
    held = [sessions.start(ann) for _ in range(3)][1]
    clock.shift(WEEK)
    with transaction.atomic():
        Session.objects.select_for_update().get(pk=held.pk)
        assert in_parallel(impatient) == ["Deleted 2 expired sessions and 0 old security events."]
    assert Session.objects.get() == held
