from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_string
from io import StringIO
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any
from unittest.mock import patch

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.management import call_command
from django.core.signals import request_started
from django.db import connection, transaction
from django.utils import timezone, translation
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import Mail, MailKind, User
from tests.clients import Browser
from tests.mailbox import wait_until
from tests.racing import in_parallel, just_before
from tokens import kinds
from tokens.domain import sessions
from tokens.domain.client import Client

pytestmark = pytest.mark.django_db


# What is sent


def text_of(mail: EmailMessage) -> str:
    return str(mail.body)


def html_of(mail: EmailMessage) -> str:
    assert isinstance(mail, EmailMultiAlternatives)
    ((html, mimetype),) = mail.alternatives
    assert mimetype == "text/html"
    return str(html)


@pytest.mark.parametrize(
    ("kind", "subject", "page"),
    [
        (MailKind.VERIFY_EMAIL, "Confirm your email address", "verify-email"),
        (MailKind.RESET_PASSWORD, "Reset your password", "reset-password"),
        (MailKind.SET_PASSWORD, "Choose a password", "reset-password"),
    ],
)
def test_mail_has_its_link_in_text_and_html(
    ann: User, mailoutbox: list[EmailMessage], settings: Settings, kind: MailKind, subject: str, page: str
) -> None:
    settings.PUBLIC_URL = "https://auth.example.com"
    outbox.queue(kind, "ann@example.com")
    outbox.deliver()
    (mail,) = mailoutbox
    start = f"https://auth.example.com/{page}#uid="
    assert (mail.subject, mail.to, mail.cc, mail.bcc) == (subject, ["ann@example.com"], [], [])
    assert message_from_string(mail.message().as_string())["Auto-Submitted"] == "auto-generated"
    (line,) = [line for line in text_of(mail).splitlines() if line.startswith(start)]
    assert "&token=" in line
    assert f'<a href="{line.replace("&", "&amp;")}">' in html_of(mail)
    assert '<html lang="en">' in html_of(mail)
    assert "auth.example.com" in text_of(mail)


def test_notice_to_the_old_address_says_when_it_was_changed(
    mailoutbox: list[EmailMessage], time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(datetime(2031, 5, 6, 7, 8, tzinfo=UTC))
    outbox.queue("email_changed", "old@example.com")
    time_machine.move_to(datetime(2031, 5, 6, 9, 0, tzinfo=UTC))
    outbox.deliver()
    (mail,) = mailoutbox
    assert (mail.subject, mail.to) == ("Your email address was changed", ["old@example.com"])
    for part in (text_of(mail), html_of(mail)):
        assert "The email address of your account at localhost:8000 was changed on 2031-05-06 07:08 (UTC)." in part


@pytest.mark.parametrize("kind", sorted({*MailKind, *kinds.notices()}))
def test_mail_contains_no_text_from_strangers(mailoutbox: list[EmailMessage], kind: str) -> None:
    user = User.objects.create_user("prize.example.com", "ann@example.com", "x")
    sessions.start(user, Client("192.0.2.7", "curl/8.5.0"))
    stranger = Client("192.0.2.9", "Prize: call 555-0100 at prize.example.com/1.0 CFNetwork/1408 Darwin/22.0")
    session = sessions.start(user, stranger, device_name="prize.example.com")
    outbox.queue(kind, "ann@example.com", stranger, session=session.pk)
    outbox.deliver()
    (mail,) = mailoutbox
    everything = mail.subject + text_of(mail) + html_of(mail)
    assert "prize" not in everything.lower()
    assert "555" not in everything


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (MailKind.VERIFY_EMAIL, {"email_verified": True}),
        (MailKind.VERIFY_EMAIL, {"is_active": False}),
        (MailKind.VERIFY_EMAIL, {"email": "bob@example.com", "email_key": "bob@example.com"}),
        (MailKind.RESET_PASSWORD, {"is_active": False}),
        (MailKind.RESET_PASSWORD, {"password": "!"}),
        (MailKind.RESET_PASSWORD, {"email": "bob@example.com", "email_key": "bob@example.com"}),
        (MailKind.SET_PASSWORD, {"is_active": False}),
        (MailKind.SET_PASSWORD, {"email": "bob@example.com", "email_key": "bob@example.com"}),
    ],
)
def test_mail_without_a_recipient_is_dropped(
    ann: User, mailoutbox: list[EmailMessage], kind: MailKind, change: dict[str, Any]
) -> None:
    outbox.queue(kind, "ann@example.com")
    User.objects.update(**change)
    outbox.deliver()
    assert mailoutbox == []
    assert not Mail.objects.exists()


def test_mail_is_in_the_language_of_the_request(ann: User, mailoutbox: list[EmailMessage]) -> None:
    with translation.override("de"):
        outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    with translation.override(None):
        outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    outbox.deliver()
    assert ['<html lang="de">' in html_of(mail) for mail in mailoutbox] == [True, False]


def test_database_contains_no_part_of_the_link(ann: User) -> None:
    outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    assert Mail.objects.values("kind", "address", "language").get() == {
        "kind": "reset_password",
        "address": "ann@example.com",
        "language": "en",
    }


def test_rolled_back_change_is_not_mailed(ann: User) -> None:
    with transaction.atomic():
        outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
        transaction.set_rollback(True)
    assert not Mail.objects.exists()


# When it can't be sent


def test_failed_mail_is_retried_with_growing_delays(
    ann: User, settings: Settings, caplog: pytest.LogCaptureFixture, time_machine: TimeMachineFixture
) -> None:
    settings.EMAIL_BACKEND = "tests.accounts.mails.Refusing"
    outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    mail = Mail.objects.get()
    for attempt in range(1, outbox.ATTEMPTS + 1):
        time_machine.move_to(mail.not_before, tick=False)
        outbox.deliver()
        outbox.deliver()
        mail.refresh_from_db()
        assert (mail.attempts, mail.not_before) == (attempt, timezone.now() + timedelta(minutes=2**attempt))
    time_machine.move_to(mail.not_before, tick=False)
    outbox.deliver()
    assert not Mail.objects.exists()
    *tries, end = caplog.messages
    # No word of the server's response, which may quote the mail.
    assert tries == [f"Email {mail.pk} (reset_password) could not be sent: SMTPDataError 554"] * outbox.ATTEMPTS
    assert end == f"Email {mail.pk} (reset_password) was given up after 8 tries"
    assert not any(record.exc_info for record in caplog.records)


def test_mail_delayed_by_a_wrong_clock_is_sent_sooner(
    ann: User, mailoutbox: list[EmailMessage], time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to("2030-01-01T12:00:00Z", tick=False)
    outbox.queue(MailKind.VERIFY_EMAIL, "ann@example.com")
    longest = timedelta(minutes=2**outbox.ATTEMPTS)
    Mail.objects.update(not_before=timezone.now() + longest)
    outbox.deliver()
    assert not mailoutbox
    Mail.objects.update(not_before=timezone.now() + longest + timedelta(microseconds=1))
    outbox.deliver()
    assert len(mailoutbox) == 1


def test_failing_mail_does_not_delay_the_others(ann: User, mailoutbox: list[EmailMessage]) -> None:
    Mail.objects.create(kind="of_a_newer_version", address="ann@example.com", language="en")
    outbox.queue("email_changed", "old@example.com")
    outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    outbox.deliver()
    assert [mail.to for mail in mailoutbox] == [["old@example.com"], ["ann@example.com"]]


# Who sends it


def test_mail_claimed_by_another_process_is_skipped(ann: User, mailoutbox: list[EmailMessage]) -> None:
    outbox.queue(MailKind.RESET_PASSWORD, "ann@example.com")
    with just_before('UPDATE "accounts_mail"', outbox.deliver):
        outbox.deliver()
    assert len(mailoutbox) == 1


@pytest.mark.django_db(transaction=True)
def test_each_mail_is_sent_by_one_of_many_workers(ann: User, mailoutbox: list[EmailMessage]) -> None:
    for number in range(20):
        outbox.queue("email_changed", f"old{number}@example.com")
    assert in_parallel(*[outbox.deliver] * 8) == [None] * 8
    assert sorted(mail.to[0] for mail in mailoutbox) == sorted(f"old{number}@example.com" for number in range(20))
    assert not Mail.objects.exists()


# The thread


@pytest.fixture
def worker(settings: Settings, transactional_db: None) -> Iterator[outbox.Worker]:
    settings.MAIL_WORKER = "thread"
    yield outbox.worker
    outbox.worker.stop()
    assert not threads()


def threads() -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name == "outbox"]


@contextmanager
def renamed(table: str) -> Iterator[None]:
    """Make every use of the table fail."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")
        try:
            yield
        finally:
            cursor.execute(f"ALTER TABLE {table}_gone RENAME TO {table}")


def test_server_sends_mails_outside_requests(
    worker: outbox.Worker, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "POLL", 3600)  # it is woken
    for name in ("ann", "bob"):
        body = {"username": name, "email": f"{name}@example.com", "password": "correct horse battery"}
        assert Browser().post("/auth/register", body).status_code == 201
    wait_until(lambda: len(mailoutbox) == 2)
    (thread,) = threads()
    assert thread.daemon


def test_server_sends_what_was_queued_elsewhere(
    worker: outbox.Worker, mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "POLL", 0.05)
    request_started.send(sender=None)
    Mail.objects.create(kind="email_changed", address="old@example.com", language="en")
    wait_until(lambda: len(mailoutbox) == 1)


def test_thread_survives_database_errors(
    worker: outbox.Worker,
    mailoutbox: list[EmailMessage],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outbox, "POLL", 0.05)
    outbox.queue("email_changed", "old@example.com")
    with renamed("accounts_mail"):
        worker.start()
        wait_until(lambda: len(caplog.records) > 1)
    wait_until(lambda: len(mailoutbox) == 1)
    assert caplog.messages[0].startswith("Emails could not be delivered: ")
    assert not any(record.exc_info for record in caplog.records)


def test_waiting_thread_holds_no_connection(worker: outbox.Worker) -> None:
    class Watch(Event):
        held: Any = None

        def wait(self, timeout: float | None = None) -> bool:
            self.held = connection.connection
            worker.stop()
            return True

    connection.ensure_connection()
    with patch.object(worker, "_woken", Watch()) as watch, patch.object(worker, "_stopped", False):
        worker.run()
    assert watch.held is None


def test_thread_is_started_once(worker: outbox.Worker) -> None:
    assert in_parallel(*[worker.start] * 8) == [None] * 8
    assert len(threads()) == 1
    worker.stop()
    worker.start()
    assert len(threads()) == 1


def test_thread_stops_at_any_moment(worker: outbox.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Event):
        def clear(self) -> None:
            worker._stopped = True
            self.set()
            super().clear()

    woken = Interrupted()
    woken.set()
    monkeypatch.setattr(outbox, "POLL", 3600)
    monkeypatch.setattr(worker, "_woken", woken)
    worker.start()
    wait_until(lambda: not threads())


def test_worker_that_was_never_started_can_be_stopped() -> None:
    outbox.Worker().stop()
    assert threads() == []


def test_thread_is_not_started_if_a_command_sends(worker: outbox.Worker, settings: Settings) -> None:
    settings.MAIL_WORKER = "command"
    request_started.send(sender=None)
    outbox.queue("email_changed", "old@example.com")
    assert threads() == []
    assert Mail.objects.get().attempts == 0


# The command


def test_command_sends_due_mails(mailoutbox: list[EmailMessage]) -> None:
    outbox.queue("email_changed", "old@example.com")
    call_command("sendmails", once=True)
    assert len(mailoutbox) == 1


@pytest.mark.django_db(transaction=True)
def test_command_keeps_sending_until_stopped(mailoutbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch) -> None:
    send = outbox.deliver

    def deliver() -> None:
        send()
        if len(mailoutbox) == 2:
            raise KeyboardInterrupt
        outbox.queue("email_changed", "older@example.com")

    monkeypatch.setattr(outbox, "deliver", deliver)
    monkeypatch.setattr(outbox, "POLL", 0)
    outbox.queue("email_changed", "old@example.com")
    stderr = StringIO()
    call_command("sendmails", stderr=stderr)
    assert [mail.to for mail in mailoutbox] == [["old@example.com"], ["older@example.com"]]
    assert stderr.getvalue() == "Stopped.\n"
