"""The outbox. Mails are queued in the transaction of their cause, and sent seconds later, never in a request.

Otherwise the time of sending would reveal that an address is known, and a mail server that is down would fail the
request.
"""

import logging
from atexit import register as at_exit
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, router, transaction
from django.db.models import Q
from django.utils import timezone, translation

from tokens.domain.client import UNKNOWN, Client

from ..models import Mail
from . import composing

logger = logging.getLogger(__name__)

ATTEMPTS = 8
"""The most tries of a mail. The pauses double from two minutes, so these take some four hours."""

POLL = 5
"""Seconds between two reads of the table, for mails that another process queued or could not send."""

STOP_TIMEOUT = 5
"""Seconds that a stopping process waits for a mail that is being sent."""


def queue(
    kind: str, address: str, client: Client = UNKNOWN, *, session: UUID | None = None, at: datetime | None = None
) -> None:
    """Queue a mail to the owner of the address, who is looked up when it is sent.

    It is about what the client did in that session, at that time or now.
    """
    Mail.objects.create(
        kind=kind,
        address=address,
        session=session,
        ip_address=client.ip_address,
        user_agent=client.user_agent,
        language=translation.get_language() or settings.LANGUAGE_CODE,
        created_at=at or timezone.now(),
    )
    transaction.on_commit(worker.wake, using=router.db_for_write(Mail))


def deliver() -> None:
    """Send what is due. Any number of processes can do so at once: each mail is claimed by one.

    If a process dies between sending a mail and deleting its row, the mail is sent again.
    """
    while mail := _due():
        if mail.attempts >= ATTEMPTS:
            logger.error("Email %s (%s) was given up after %s tries", mail.pk, mail.kind, ATTEMPTS)
            mail.delete()
        elif _claim(mail):
            _send(mail)


def _due() -> Mail | None:
    now = timezone.now()
    # A mail that is put off for longer than the longest pause was put off by a wrong clock.
    due = Q(not_before__lte=now) | Q(not_before__gt=now + _pause(ATTEMPTS))
    return Mail.objects.filter(due).order_by("not_before").first()


def _claim(mail: Mail) -> bool:
    """Claim the mail by putting off its next try; return whether this process was the first."""
    row = Mail.objects.filter(pk=mail.pk, attempts=mail.attempts)
    not_before = timezone.now() + _pause(mail.attempts + 1)
    return bool(row.update(attempts=mail.attempts + 1, not_before=not_before))


def _pause(attempts: int) -> timedelta:
    return timedelta(minutes=2**attempts)


def _send(mail: Mail) -> None:
    try:
        with translation.override(mail.language):
            if message := composing.compose(mail):
                message.send()
    except Exception as error:  # noqa: BLE001 - whatever it is, the mails behind this one are not held up
        # Without the error's text, which may quote the mail and its link.
        reason = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".rstrip()
        logger.warning("Email %s (%s) could not be sent: %s", mail.pk, mail.kind, reason)
    else:
        mail.delete()


class Worker:
    """Delivers mails in a thread of the server's process, beside the requests."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._starting = Lock()
        self._woken = Event()
        self._stopped = False

    def start(self, **kwargs: Any) -> None:
        """Start the thread, once for each process. The first request calls it, since no thread survives a fork."""
        if settings.MAIL_WORKER != "thread":
            return
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._stopped = False
                self._thread = Thread(target=self.run, name="outbox", daemon=True)
                self._thread.start()
                at_exit(self.stop)

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """End the thread, and wait for the mail that it is sending."""
        self._stopped = True
        self.wake()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT)

    def run(self) -> None:
        """Deliver until stopped, also through outages of the database."""
        while not self._stopped:
            try:
                deliver()
            except Exception as error:  # noqa: BLE001 - nobody would start the thread again
                logger.warning("Emails could not be delivered: %s", type(error).__name__)
            finally:
                connections.close_all()
            self._woken.wait(POLL)
            self._woken.clear()  # here and not before `deliver`, which a call to `wake` or `stop` may interrupt


worker = Worker()
