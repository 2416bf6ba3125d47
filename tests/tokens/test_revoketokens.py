import re
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser
from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.management.commands import revoketokens
from tokens.models import Reason, SecurityEvent, Session

FIREFOX = Client("192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")

Typist = Callable[[str], None]


@pytest.fixture
def bob(db: None, django_user_model: Any) -> Any:
    return django_user_model._default_manager.create_user("bob", email="bob@example.com", password=PASSWORD)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Type at a terminal."""
    return lambda text: monkeypatch.setattr("sys.stdin", Terminal(text))


def revoke(*arguments: str) -> list[str]:
    """Run the command; return the lines that it printed."""
    out = StringIO()
    call_command("revoketokens", *arguments, stdout=out)
    return out.getvalue().splitlines()


def live() -> list[Session]:
    return list(Session.objects.live().order_by("pk"))


def test_only_the_users_sessions_end(ann: Any, bob: Any, browser: Browser, app: App) -> None:
    others = sessions.start(bob)
    assert revoke("--user=ann", "--noinput") == [
        "This will revoke 2 active sessions of ann.",
        "Revoked 2 active sessions.",
    ]
    assert live() == [others]
    assert browser.refresh().json()["code"] == app.refresh().json()["code"] == "token_revoked"
    assert Session.objects.filter(revoked_reason=Reason.COMMAND).count() == 2
    assert SecurityEvent.objects.filter(user=ann, kind="session_revoked").count() == 2


def test_only_the_named_session_ends(ann: Any, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    one, other = sessions.start(ann, FIREFOX), sessions.start(ann, FIREFOX)
    assert revoke(f"--session={one.pk}", "--no-input") == [
        "This will revoke 1 active session of ann, Firefox on Linux, signed in 2030-01-01 12:00 UTC.",
        "Revoked 1 active session.",
    ]
    assert live() == [other]
    assert SecurityEvent.objects.get(kind="session_revoked").session == one.pk


def test_all_sessions_end_in_batches(ann: Any, bob: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoketokens, "BATCH_SIZE", 2)
    for user in (ann, bob, ann, bob, ann):
        sessions.start(user)
    assert revoke("--all", "--noinput") == [
        "This will revoke 5 active sessions of all users.",
        "Revoked 5 active sessions.",
    ]
    assert not live()
    assert SecurityEvent.objects.filter(kind="session_revoked").count() == 5


def test_ended_sessions_are_not_changed(ann: Any, time_machine: TimeMachineFixture) -> None:
    sessions.start(ann)
    time_machine.move_to(timezone.now() + timedelta(days=7))
    sessions.revoke(sessions.start(ann), Reason.LOGOUT)
    assert revoke("--all", "--noinput") == ["Nothing to revoke: there are no active sessions of all users."]
    assert not Session.objects.filter(revoked_reason=Reason.COMMAND).exists()


def test_sessions_that_a_password_change_ended_are_not_counted(ann: Any) -> None:
    sessions.start(ann)
    ann.set_password("another one")
    ann.save()
    assert revoke("--user=ann", "--noinput") == ["Nothing to revoke: there are no active sessions of ann."]


def test_yes_continues(ann: Any, typed: Typist) -> None:
    sessions.start(ann)
    typed("yes\n")
    assert revoke("--user=ann") == ["This will revoke 1 active session of ann.", "Revoked 1 active session."]
    assert not live()


@pytest.mark.parametrize("answer", ["no\n", "\n", "y\n", "YES!\n", ""])
def test_other_answers_end_nothing(ann: Any, typed: Typist, answer: str) -> None:
    session = sessions.start(ann)
    typed(answer)
    assert revoke("--user=ann") == ["This will revoke 1 active session of ann.", "Nothing was revoked."]
    assert live() == [session]


def test_no_confirmation_is_asked_without_a_terminal(ann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.start(ann)
    monkeypatch.setattr("sys.stdin", StringIO())
    assert revoke("--user=ann") == ["This will revoke 1 active session of ann.", "Revoked 1 active session."]
    assert not live()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--user=nobody"], "User 'nobody' does not exist."),
        (["--user=\udcff"], r"User '\udcff' does not exist."),
        ([f"--session={uuid4()}"], "Session '"),
        (["--session=ann"], "Session 'ann' does not exist."),
        ([], "Error: one of the arguments --user --session --all is required"),
        (["--user=ann", "--all"], "Error: argument --all: not allowed with argument --user"),
    ],
)
def test_unknown_arguments_end_nothing(ann: Any, arguments: list[str], sentence: str) -> None:
    session = sessions.start(ann)
    with pytest.raises(CommandError, match=f"^{re.escape(sentence)}"):
        revoke(*arguments, "--noinput")
    assert live() == [session]
