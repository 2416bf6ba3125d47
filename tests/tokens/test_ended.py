"""The feed of ended sessions."""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Event, Thread
from time import sleep
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser, claims_of
from tests.racing import in_parallel
from tests.tokens.test_oauth import basic
from tokens.domain import feed, sessions
from tokens.models import Ended, Reason, Session

SECRET = "a secret of its own"
START = datetime.fromisoformat("2030-01-01T12:00:00+00:00")
LIFE = 15 * 60

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def credentials(settings: Settings) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": SECRET}


@pytest.fixture
def ann(transactional_db: None) -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


class Reader:
    """A service that continues from where it was."""

    def __init__(self) -> None:
        self.next: str | None = None

    def ask(self, after: str | None = None, **headers: str) -> Any:
        asked = {} if after is None else {"after": after}
        return APIClient().get("/auth/ended", asked, headers={"Authorization": basic("billing", SECRET), **headers})

    def read(self) -> list[tuple[str, str]]:
        response = self.ask(self.next)
        assert response.status_code == 200, response.content
        self.next = response.json()["next"]
        return [(entry["sid"], entry["reason"]) for entry in response.json()["ended"]]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def falls_silent(reader: Reader) -> bool:
    """Return whether the feed stops repeating itself.

    It repeats while older transactions are running, even those of other databases on the same PostgreSQL. Another test
    may hold one for long, so only a feed that never stops exceeds the two minutes.
    """
    for _ in range(1200):
        if not reader.read():
            return True
        sleep(0.1)
    return False


def test_ended_session_is_in_the_feed_once(ann: Any, reader: Reader, clock: TimeMachineFixture) -> None:
    session, _ = sessions.start(ann), sessions.start(ann)
    assert reader.read() == []
    sessions.revoke(session, Reason.LOGOUT)

    response = reader.ask(reader.next)

    assert response.status_code == 200
    assert response.json() == {
        "ended": [{"sid": str(session.pk), "at": "2030-01-01T12:00:00Z", "reason": "logout"}],
        "next": response.json()["next"],
        "interval": 5,
    }
    assert response["Cache-Control"] == "no-store"
    reader.next = response.json()["next"]
    assert falls_silent(reader)


def change_through_the_model(user: Any) -> None:
    user.set_password("another password")
    user.save()


def assign_a_hash(user: Any) -> None:
    user.password = "!"
    user.save(update_fields=["password"])


ENDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "logout": ("logout", lambda _: sessions.revoke(Session.objects.get(), Reason.LOGOUT)),
    "everywhere": ("logout_all", lambda ann: sessions.revoke_all(ann, Reason.LOGOUT_ALL)),
    "command": ("command", lambda _: call_command("revoketokens", "--all", "--noinput", verbosity=0)),
    "cap": ("cap", sessions.start),
    "replaced": ("replaced", lambda ann: sessions.start(ann, replaced=Session.objects.get())),
    "password": ("password", change_through_the_model),
    "hash": ("password", assign_a_hash),
    "deletion": ("deleted", lambda ann: ann.delete()),
    "deletion of many": ("deleted", lambda ann: get_user_model()._default_manager.filter(pk=ann.pk).delete()),
}


@pytest.mark.parametrize("end", ENDS)
def test_each_way_of_ending_is_in_the_feed(ann: Any, reader: Reader, settings: Settings, end: str) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 1 if end == "cap" else 0
    session = sessions.start(ann)
    assert reader.read() == []
    reason, act = ENDS[end]

    act(ann)

    assert reader.read() == [(str(session.pk), reason)]


def test_reuse_is_told(ann: Any, reader: Reader) -> None:
    app = App()
    app.login()
    first = app.refresh_token
    app.refresh()
    app.refresh()
    Session.objects.update(rotated_at=timezone.now() - timedelta(seconds=11), confirmed=True)
    assert app.refresh(first).data["code"] == "token_reused"
    assert reader.read() == [(claims_of(app.access)["sid"], "reused")]


def test_deletion_in_the_admin_is_in_the_feed(ann: Any, reader: Reader, admin_client: Any) -> None:
    session = sessions.start(ann)
    reader.read()
    admin_client.post(f"/admin/latchkey/session/{session.pk}/delete/", {"post": "yes"})
    assert not Session.objects.filter(pk=session.pk).exists()
    assert reader.read() == [(str(session.pk), "staff")]


def test_other_changes_are_not_in_the_feed(ann: Any, reader: Reader) -> None:
    sessions.start(ann)
    ann.email = "ann@example.org"
    ann.save()
    ann.set_password("another password")
    ann.save(update_fields=["email"])
    assert reader.read() == []


def test_changed_password_is_in_the_feed_once(ann: Any, reader: Reader) -> None:
    session = sessions.start(ann)
    for _ in range(2):
        change_through_the_model(ann)
    ann.delete()
    assert reader.read() == [(str(session.pk), "password"), (str(session.pk), "deleted")]


def test_deleting_an_ended_session_adds_no_entry(ann: Any, clock: TimeMachineFixture) -> None:
    revoked, expired = sessions.start(ann), sessions.start(ann)
    sessions.revoke(revoked, Reason.LOGOUT)
    clock.move_to(expired.expires_at + timedelta(seconds=LIFE - 1))
    lately = sessions.start(ann)
    Session.objects.filter(pk=lately.pk).update(expires_at=timezone.now() - timedelta(seconds=LIFE - 1))
    Session.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=LIFE))
    ann.delete()
    assert [row.session for row in feed.read().ended] == [lately.pk]


def test_rolled_back_end_is_not_in_the_feed(ann: Any, reader: Reader) -> None:
    session = sessions.start(ann)
    with transaction.atomic():
        sessions.revoke(session, Reason.LOGOUT)
        transaction.set_rollback(True)
    assert reader.read() == []


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer at a time.")
def test_late_commit_is_in_the_feed(ann: Any, reader: Reader) -> None:
    early, late = sessions.start(ann), sessions.start(get_user_model()._default_manager.create_user("bob"))
    written, read = Event(), Event()

    def end_late() -> None:
        try:
            with transaction.atomic():
                sessions.revoke(early, Reason.LOGOUT)
                written.set()
                assert read.wait(30)
        finally:
            connection.close()

    writer = Thread(target=end_late)
    writer.start()
    try:
        assert written.wait(30)
        sessions.revoke(late, Reason.LOGOUT)
        first = reader.read()
    finally:
        read.set()
        writer.join()
    assert first == [(str(late.pk), "logout")]
    assert (str(early.pk), "logout") in reader.read()
    assert falls_silent(reader)


def test_parallel_ends_are_all_in_the_feed(ann: Any, reader: Reader) -> None:
    begun = [sessions.start(ann) for _ in range(12)]
    seen: set[str] = set()

    def read() -> None:
        for _ in range(20):
            seen.update(sid for sid, _ in reader.read())

    def end(some: list[Session]) -> Callable[[], bool]:
        return lambda: all(sessions.revoke(session, Reason.LOGOUT) for session in some)

    outcomes = in_parallel(read, end(begun[::2]), end(begun[1::2]))
    read()

    assert outcomes == [None, True, True]
    assert seen == {str(session.pk) for session in begun}


# Responses


def test_feed_covers_the_lifetime_of_an_access_token(ann: Any, reader: Reader, clock: TimeMachineFixture) -> None:
    session = sessions.start(ann)
    reader.read()
    sessions.revoke(session, Reason.LOGOUT)
    clock.shift(LIFE - 1)
    assert [entry["sid"] for entry in reader.ask().json()["ended"]] == [str(session.pk)]
    clock.shift(1)
    assert reader.ask().json()["ended"] == []
    assert reader.ask(reader.next).json()["ended"] == []


def test_cursor_is_valid_for_the_lifetime_of_an_access_token(
    transactional_db: None, reader: Reader, clock: TimeMachineFixture
) -> None:
    reader.read()
    clock.shift(LIFE)
    assert reader.ask(reader.next).status_code == 200
    clock.shift(1)
    response = reader.ask(reader.next)
    assert (response.status_code, response.json()) == (
        410,
        {"detail": "This cursor has expired. Start again without a cursor.", "code": "cursor_expired"},
    )


def test_cursor_from_before_a_restore_is_gone(transactional_db: None, reader: Reader) -> None:
    reader.read()
    at = str(reader.next).partition("-")[0]
    assert reader.ask(f"{at}-{'9' * 19}").json()["code"] == "cursor_expired"


@pytest.mark.parametrize(
    "after", ["x", "1", "1-", "-1", "1-1-1", "1-x", "\u0661-\u0661", "1" * 13 + "-1", "\0", "1" * 5000]
)
def test_malformed_cursor_is_a_field_error(transactional_db: None, reader: Reader, after: str) -> None:
    response = reader.ask(after)
    assert (response.status_code, response.json().keys()) == (400, {"after"})


def test_poll_gets_the_same_answer_until_something_ends(ann: Any, reader: Reader, clock: TimeMachineFixture) -> None:
    session = sessions.start(ann)
    reader.read()
    first = reader.ask(reader.next)
    assert first.json()["next"] == reader.next
    tag = {"If-None-Match": first["ETag"]}
    unchanged = reader.ask(reader.next, **tag)
    assert (unchanged.status_code, unchanged.content, unchanged["ETag"]) == (304, b"", first["ETag"])
    sessions.revoke(session, Reason.LOGOUT)
    assert reader.ask(reader.next, **tag).status_code == 200


def test_poll_gets_a_new_cursor_before_the_old_one_expires(
    transactional_db: None, reader: Reader, clock: TimeMachineFixture
) -> None:
    reader.read()
    tag, former = reader.ask(reader.next)["ETag"], reader.next
    clock.shift(LIFE // 4)
    response = reader.ask(reader.next, **{"If-None-Match": tag})
    assert response.status_code == 200
    assert response.json()["next"] != former


def test_unchanged_answer_without_a_cursor_is_304(ann: Any, reader: Reader, clock: TimeMachineFixture) -> None:
    sessions.revoke(sessions.start(ann), Reason.LOGOUT)
    tag = reader.ask()["ETag"]
    assert reader.ask(**{"If-None-Match": tag}).status_code == 304


# Who may read it


def test_service_without_credentials_is_refused(transactional_db: None) -> None:
    response = APIClient().get("/auth/ended")
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == 'Basic realm="api"'


def test_wrong_credentials_are_refused(transactional_db: None, reader: Reader) -> None:
    response = reader.ask(Authorization=basic("billing", "wrong"))
    assert (response.status_code, response.json()["code"]) == (401, "invalid_credentials")
    assert response["WWW-Authenticate"] == 'Basic realm="api"'


def test_staff_cannot_read_the_feed(ann: Any, reader: Reader) -> None:
    ann.is_staff = ann.is_superuser = True
    ann.save()
    browser = Browser()
    browser.login()
    assert reader.ask(Authorization=f"Bearer {browser.access}").status_code == 401


# What it costs


def test_feed_without_readers_costs_nothing(ann: Any, settings: Settings, django_assert_num_queries: Any) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {}
    sessions.revoke(sessions.start(ann), Reason.LOGOUT)
    sessions.start(ann)
    change_through_the_model(ann)
    ann.delete()
    assert not Ended.objects.exists()


@pytest.mark.usefixtures("heard")
def test_ending_with_a_feed_costs_two_more_statements(
    ann: Any, settings: Settings, django_assert_num_queries: Any
) -> None:
    one, other = sessions.start(ann), sessions.start(ann)
    alone = 3 if connection.vendor == "postgresql" else 4
    with django_assert_num_queries(alone + 2):
        sessions.revoke(one, Reason.LOGOUT)
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {}
    with django_assert_num_queries(alone):
        sessions.revoke(other, Reason.LOGOUT)


def test_reading_the_feed_costs_two_statements(ann: Any, reader: Reader, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        reader.read()


def test_table_does_not_grow_without_the_command(ann: Any, clock: TimeMachineFixture) -> None:
    for _ in range(40):
        sessions.revoke(sessions.start(ann), Reason.LOGOUT)
    clock.shift(LIFE)
    for left in (30, 20, 10, 0, 0):
        sessions.revoke(sessions.start(ann), Reason.LOGOUT)
        assert feed.past().count() <= left


@pytest.mark.parametrize("arguments", [["--dry-run"], [], ["--batch-size", "2"]])
def test_command_deletes_entries_past_their_lifetime(ann: Any, clock: TimeMachineFixture, arguments: list[str]) -> None:
    for _ in range(5):
        sessions.revoke(sessions.start(ann), Reason.LOGOUT)
    clock.shift(1)
    kept = sessions.start(ann)
    sessions.revoke(kept, Reason.LOGOUT)
    clock.shift(LIFE - 1)
    call_command("flushexpiredtokens", *arguments, verbosity=0)
    assert Ended.objects.count() == (6 if "--dry-run" in arguments else 1)
    assert str(Ended.objects.last()) == str(kept.pk)
