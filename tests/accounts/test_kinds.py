"""Each kind of the table becomes what the table says: a line, a count, and perhaps a row and a mail."""

import json
import logging
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import Mail, User
from config.serving.metrics import registry
from tokens import kinds
from tokens.domain import events, sessions
from tokens.domain.client import Client
from tokens.kinds import Kind
from tokens.models import SecurityEvent

FIREFOX = Client("192.0.2.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
CURL = Client("192.0.2.8", "curl/8.5.0")


@pytest.fixture
def ann(transactional_db: None) -> User:
    return User.objects.create_user("ann", "ann@example.com", email_verified=True)


def counted(kind: Kind) -> float:
    return registry.get_sample_value("latchkey_security_events_total", {"kind": kind}) or 0


@pytest.mark.parametrize("kind", kinds.TABLE.values())
def test_kind_becomes_what_the_table_says(
    ann: User, kind: Kind, settings: Settings, caplog: pytest.LogCaptureFixture, time_machine: TimeMachineFixture
) -> None:
    settings.NOTICES = []
    sessions.start(ann, CURL)
    time_machine.move_to(timezone.now() + timedelta(minutes=1))
    session = sessions.start(ann, FIREFOX)
    SecurityEvent.objects.filter(session=session.pk).delete()
    settings.NOTICES = ["all"]
    caplog.set_level(logging.INFO, "latchkey.security")
    caplog.clear()
    before = counted(kind)

    if kind == kinds.LOGIN_FAILED:
        events.announce_failed_login("ann", FIREFOX)
    else:
        events.announce(kind, ann, FIREFOX, session)

    [line] = [json.loads(record.message) for record in caplog.records if record.name == "latchkey.security"]
    assert (line["event"], line["user"], line["address"]) == (kind, ann.pk, "192.0.2.7")
    assert counted(kind) == before + 1
    rows = SecurityEvent.objects.filter(kind=kind, ip_address="192.0.2.7")
    assert [(row.user, row.user_agent) for row in rows] == ([(ann, FIREFOX.user_agent)] if kind.row else [])
    outbox.deliver()
    assert not Mail.objects.exists()
    sent = [(message.subject, message.to) for message in mail.outbox]
    assert sent == ([(kind.notice.subject, ["ann@example.com"])] if kind.notice else [])


def test_kinds_have_human_readable_names() -> None:
    assert all(str(kind.label) for kind in kinds.TABLE.values())
    assert ("login", "signed in") in kinds.choices()


def test_kind_without_a_row_is_not_offered_in_the_log() -> None:
    assert "account_deleted" not in dict(kinds.choices())


def test_kind_names_are_unique() -> None:
    with pytest.raises(ValueError, match="The kind 'login' already exists"):
        kinds.add("login", "signed in once more")
