"""The security log."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser
from tokens import kinds as table
from tokens import signals
from tokens.domain import events, sessions
from tokens.models import Reason, SecurityEvent, Session


def kinds() -> list[str]:
    return list(SecurityEvent.objects.order_by("created_at", "id").values_list("kind", flat=True))


def test_login_is_logged_with_user_and_address(ann: Any) -> None:
    browser = Browser(user_agent="A" * 300)
    browser.login(REMOTE_ADDR="192.0.2.7")
    event = SecurityEvent.objects.get()
    assert (str(event), event.user, event.ip_address, event.user_agent) == ("login", ann, "192.0.2.7", "A" * 256)
    session = Session.objects.get()
    assert event.session == session.pk
    assert (session.ip_address, session.user_agent) == ("192.0.2.7", "A" * 256)


def test_client_without_an_address_is_logged_without_one(ann: Any) -> None:
    Browser().login(REMOTE_ADDR="")
    assert SecurityEvent.objects.get().ip_address is None


def test_plain_refresh_is_not_logged(app: App) -> None:
    app.refresh()
    assert kinds() == ["login"]


def test_failed_logins_of_an_account_and_an_hour_share_a_row(ann: Any, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    for address in ("192.0.2.1", "192.0.2.2"):
        Browser().login(password="wrong", REMOTE_ADDR=address)
        time_machine.shift(60)
    event = SecurityEvent.objects.get()
    assert (event.kind, event.count, event.ip_address) == ("login_failed", 2, "192.0.2.2")
    assert event.created_at == timezone.now() - timedelta(minutes=1)
    time_machine.shift(3600)
    Browser().login(password="wrong")
    assert sorted(SecurityEvent.objects.values_list("count", flat=True)) == [1, 2]


def test_failed_login_of_an_unknown_name_leaves_no_row(ann: Any) -> None:
    Browser().login("nobody")
    assert kinds() == []


def test_first_failed_login_of_an_hour_takes_the_work_of_an_unknown_name(ann: Any) -> None:
    statements = []
    for username in ("ann", "nobody", "ann"):
        with CaptureQueriesContext(connection) as queries:
            Browser().login(username, "wrong")
        statements.append([query["sql"].split()[0] for query in queries])
    assert statements[0] == statements[1] == statements[2]


def test_failed_login_without_a_request_is_logged_too(ann: Any) -> None:
    assert authenticate(username="ann", password="wrong") is None
    assert SecurityEvent.objects.get().ip_address is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.LOGOUT, "logout"),
        (Reason.LOGOUT_ALL, "logout"),
        (Reason.REUSED, "token_reused"),
        (Reason.REVOKED, "session_revoked"),
        (Reason.STAFF, "session_revoked"),
    ],
)
def test_revocation_is_logged_by_its_reason(app: App, reason: Reason, kind: str) -> None:
    session = Session.objects.get()
    assert sessions.revoke(session, reason)
    assert not sessions.revoke(session, reason)
    assert kinds() == ["login", kind]
    assert SecurityEvent.objects.get(kind=kind).reason == reason


ELSEWHERE: Any = {"REMOTE_ADDR": "203.0.113.66", "HTTP_USER_AGENT": "curl/8.5.0"}


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        (ELSEWHERE, True),
        ({"REMOTE_ADDR": "203.0.113.66"}, False),
        ({"HTTP_USER_AGENT": "curl/8.5.0"}, False),
        ({**ELSEWHERE, "REMOTE_ADDR": ""}, False),
        ({}, False),
    ],
)
def test_retry_from_another_address_is_answered_and_logged(app: App, changes: Any, logged: bool) -> None:
    first = app.refresh_token
    answer = app.refresh()
    retry = app.http.post("/api/token/refresh/", {"refresh": first}, format="json", **changes)
    assert (retry.status_code, retry.json()["refresh"]) == (200, answer.json()["refresh"])
    assert kinds() == ["login", "retried_elsewhere"] if logged else ["login"]
    if logged:
        event = SecurityEvent.objects.get(kind="retried_elsewhere")
        assert (event.session, event.ip_address, event.user_agent) == (
            Session.objects.get().pk,
            "203.0.113.66",
            "curl/8.5.0",
        )


def test_retries_of_a_session_within_an_hour_share_a_row(app: App, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    for app_ in (app, App()):
        app_.login()
        first = app_.refresh_token
        app_.refresh()
        for _ in range(3):
            app_.http.post("/api/token/refresh/", {"refresh": first}, format="json", **ELSEWHERE)
    assert list(SecurityEvent.objects.filter(kind="retried_elsewhere").values_list("count", flat=True)) == [3, 3]


@pytest.mark.parametrize("how", ["logout", "logout-all", "revoke", "blacklist"])
def test_session_ended_by_its_owner_says_so(ann: Any, browser: Browser, how: str) -> None:
    access = browser.access
    where: Any = {"REMOTE_ADDR": "192.0.2.7"}
    match how:
        case "logout" | "logout-all":
            answer = browser.post(f"/auth/{how}", None, access, **where)
        case "revoke":
            form = "application/x-www-form-urlencoded"
            answer = browser.http.post("/auth/revoke", f"token={access}", content_type=form, **where)
        case _:
            answer = browser.http.post("/api/token/blacklist/", {"refresh": browser.cookie}, format="json", **where)
    assert answer.status_code < 300
    session = Session.objects.get()
    assert (session.revoked_by, session.revoked_from) == ("ann", "192.0.2.7")


def test_reuse_has_no_actor_and_logs_the_address(app: App, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD, settings.TOKENS_LATE_RETRY = timedelta(), False
    first = app.refresh_token
    app.refresh()
    answer = app.http.post("/api/token/refresh/", {"refresh": first}, format="json", REMOTE_ADDR="192.0.2.66")
    assert answer.status_code == 401
    session = Session.objects.get()
    assert (session.revoked_reason, session.revoked_by, session.revoked_from) == ("reused", "", "192.0.2.66")


def test_long_username_of_the_actor_is_logged(ann: Any) -> None:
    session = sessions.start(ann)
    ann.username = "a" * 300
    sessions.revoke(session, Reason.REVOKED, by=ann)
    assert Session.objects.get().revoked_by == session.revoked_by == "a" * 254


def test_revoking_other_sessions_logs_one_row_each(ann: Any) -> None:
    mine, *others = (sessions.start(ann) for _ in range(3))
    assert sessions.revoke_others(mine, Reason.REVOKED) == 2
    assert sessions.revoke_others(mine, Reason.REVOKED) == 0
    logged = SecurityEvent.objects.filter(kind="session_revoked")
    assert {event.session for event in logged} == {session.pk for session in others}


def test_eviction_is_logged_with_the_login_that_caused_it(app: App, settings: Settings) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 1
    evicted = Session.objects.get()
    app.login()
    event = SecurityEvent.objects.get(kind="session_revoked")
    assert (event.session, event.reason) == (evicted.pk, Reason.CAP)
    assert Session.objects.get(pk=evicted.pk).revoked_by == ""
    assert sorted(kinds()) == ["login", "login", "session_revoked"]


def test_events_of_other_apps_are_recorded(ann: Any) -> None:
    events.announce(table.REAUTHENTICATED, ann)
    assert kinds() == ["reauthenticated"]


def test_signals_cover_the_life_of_a_session(ann: Any) -> None:
    heard: list[tuple[str, Any]] = []

    def started(session: Session, **kwargs: Any) -> None:
        heard.append(("started", session.generation))

    def rotated(session: Session, **kwargs: Any) -> None:
        heard.append(("rotated", session.generation))

    def revoked(sessions: list[Session], reason: Reason, **kwargs: Any) -> None:
        heard.append(("revoked", reason))

    def reused(session: Session, **kwargs: Any) -> None:
        heard.append(("reused", session.revoked_reason))

    listeners: dict[Signal, Any] = {
        signals.session_started: started,
        signals.session_rotated: rotated,
        signals.sessions_revoked: revoked,
        signals.token_reused: reused,
    }
    for signal, listener in listeners.items():
        signal.connect(listener)
    try:
        app = App()
        app.login()
        first = app.refresh_token
        app.refresh()
        Session.objects.update(confirmed=True, rotated_at=timezone.now() - timedelta(minutes=1))
        app.refresh(first)
    finally:
        for signal, listener in listeners.items():
            signal.disconnect(listener)
    assert heard == [("started", 0), ("rotated", 1), ("revoked", "reused"), ("reused", "reused")]


def test_password_of_a_failed_login_is_not_logged(ann: Any, caplog: pytest.LogCaptureFixture) -> None:
    Browser().login(password=PASSWORD + "!")
    assert PASSWORD not in caplog.text
    assert PASSWORD not in str(list(SecurityEvent.objects.values()))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "latchkey.security"]


@pytest.mark.django_db(transaction=True)
def test_events_are_logged_as_json_after_commit(caplog: pytest.LogCaptureFixture, django_user_model: Any) -> None:
    ann = django_user_model._default_manager.create_user("ann", email="ann@example.com", password=PASSWORD)
    caplog.set_level("INFO", "latchkey.security")
    with transaction.atomic():
        events.announce(table.LOGIN, ann)
        transaction.set_rollback(True)
    Browser("agent").login(REMOTE_ADDR="192.0.2.7")
    session = Session.objects.get()
    sessions.revoke(session, Reason.STAFF)
    login = {"event": "login", "user": ann.pk, "session": str(session.pk), "address": "192.0.2.7", "agent": "agent"}
    ended = {**login, "event": "session_revoked", "address": None, "agent": "", "reason": "staff"}
    assert lines(caplog) == [login, ended]


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_failed_logins_of_unknown_names_are_logged_too(ann: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level("INFO", "latchkey.security")
    Browser("agent").login(name, "wrong", REMOTE_ADDR="192.0.2.7")
    user = ann.pk if name == "ann" else None
    line = {"event": "login_failed", "user": user, "session": None, "address": "192.0.2.7", "agent": "agent"}
    assert lines(caplog) == [line]
    assert "nobody" not in caplog.text


# Sessions in a separate database


class Elsewhere:
    """Everything is read and written in the database `other`."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    db_for_write = db_for_read


@pytest.fixture
def other(tmp_path: Path, settings: Settings, transactional_db: None) -> Iterator[None]:
    database = {**connections["default"].settings_dict, "ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    connections.databases["other"] = {**database, "NAME": str(tmp_path / "other.sqlite3")}
    connections["other"].connect()
    call_command("migrate", database="other", verbosity=0)
    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    yield
    connections["other"].close()
    del connections["other"], connections.databases["other"]


def test_login_is_announced_after_its_own_database_commits(
    other: None, caplog: pytest.LogCaptureFixture, django_user_model: Any
) -> None:
    caplog.set_level("INFO", "latchkey.security")
    ann = django_user_model._default_manager.create_user("ann", email="ann@example.com", password=PASSWORD)
    with transaction.atomic(using="other"):
        sessions.start(ann)
        assert lines(caplog) == []
    assert [line["event"] for line in lines(caplog)] == ["login"]
    with transaction.atomic(using="other"):
        sessions.start(ann)
        transaction.set_rollback(True, using="other")
    assert len(lines(caplog)) == 1


@pytest.mark.django_db(transaction=True)
def test_change_is_not_announced_for_a_deleted_user(django_user_model: Any) -> None:
    ann = django_user_model._default_manager.create_user("ann", email="ann@example.com", password=PASSWORD)
    session = sessions.start(ann)
    django_user_model._default_manager.get(pk=ann.pk).delete()
    events.announce(table.RETRIED_ELSEWHERE, ann, session=session)
    with pytest.raises(IntegrityError):
        events.announce(table.REAUTHENTICATED, ann, session=session)
    assert kinds() == []
