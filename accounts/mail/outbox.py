"""The mails that wait: queued in the transaction of what they tell of, and sent seconds later, never inside a request.

How long sending takes would tell that an address is known, and a mail server that is down would take the request along.
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
"""How often a mail is tried; with the pauses doubling from two minutes, that takes some four hours."""

POLL = 5
"""Seconds between two looks at the table, for what another process queued or could not send."""

STOP_TIMEOUT = 5
"""Seconds that the end of the process waits for a mail that is being sent."""


def queue(
    kind: str, address: str, client: Client = UNKNOWN, *, session: UUID | None = None, at: datetime | None = None
) -> None:
    """Have a mail sent to the owner of the address, who is looked up when it is sent.

    It is about what the client did then, or now, in that session.
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
    """Send what is due. Any number of processes can do so at once: a mail goes to the one that claims it.

    A process that dies between sending a mail and taking it off the table has it sent again.
    """
    while mail := _due():
        if mail.attempts >= ATTEMPTS:
            logger.error("Mail %s (%s) was given up after %s tries", mail.pk, mail.kind, ATTEMPTS)
            mail.delete()
        elif _claim(mail):
            _send(mail)


def _due() -> Mail | None:
    now = timezone.now()
    # What is put off for longer than a mail ever is was put off by a clock that was wrong.
    due = Q(not_before__lte=now) | Q(not_before__gt=now + _pause(ATTEMPTS))
    return Mail.objects.filter(due).order_by("not_before").first()


def _claim(mail: Mail) -> bool:
    """Put off the next try, which makes this one ours; return whether nobody else was faster."""
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
        # Without the error's text, which may quote the mail, and with it the link.
        reason = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".rstrip()
        logger.warning("Mail %s (%s) could not be sent: %s", mail.pk, mail.kind, reason)
    else:
        mail.delete()


class Worker:
    """Delivers, beside the requests, in a thread of the server's own process."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._starting = Lock()
        self._woken = Event()
        self._stopped = False

    def start(self, **kwargs: Any) -> None:
        """Start the thread, once a process; its first request does, since no thread survives a fork."""
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
        """Deliver until stopped, whatever becomes of the database meanwhile."""
        while not self._stopped:
            self._woken.clear()
            try:
                deliver()
            except Exception as error:  # noqa: BLE001 - nobody would start the thread again
                logger.warning("Mails could not be delivered: %s", type(error).__name__)
            finally:
                connections.close_all()
            self._woken.wait(POLL)


worker = Worker()
