"""What happened to an account, told to its owner by mail; the setting NOTICES names those that are sent."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import pre_save
from django.dispatch import receiver

from tokens.domain import log
from tokens.domain.outages import retried
from tokens.domain.sessions import Client
from tokens.models import Kind, Reason, Session
from tokens.signals import session_started, sessions_revoked

from ..models import MailKind, User
from . import outbox


def queue(kind: MailKind, address: str, client: Client, session: Session | None = None) -> None:
    """Have the notice sent, if there is an address and the setting does not leave it out."""
    if address and kind in settings.NOTICES:
        outbox.queue(kind, address, client, session)


@receiver(session_started)
def tell_of_sign_in(session: Session, client: Client, **kwargs: Any) -> None:
    # Whether the device is a new one is found out when the mail is sent, so that a login does not wait for it.
    queue(MailKind.NEW_SIGN_IN, session.user.email, client, session)


@retried
def record_sign_in(user: User, client: Client) -> None:
    """Log and tell of a sign-in that begins no session of ours: one to the admin."""
    with transaction.atomic():
        # The mail first: it compares with the lines of before.
        queue(MailKind.NEW_SIGN_IN, user.email, client)
        log.record(Kind.LOGIN, user, client)


@receiver(sessions_revoked)
def tell_of_reuse(sessions: list[Session], reason: Reason, client: Client, **kwargs: Any) -> None:
    if reason == Reason.REUSED:
        for session in sessions:
            queue(MailKind.TOKEN_REUSED, session.user.email, client, session)


@receiver(pre_save, sender=User)
def tell_of_password_change(
    instance: User, raw: bool, update_fields: frozenset[str] | None, using: str, **kwargs: Any
) -> None:
    """Tell of it and log it here, whatever the route: the API, the admin, a command, a line in the shell."""
    if raw or "password" not in (update_fields or ["password"]):
        return
    # Under the lock, or a save that undoes a change which is just being made would pass for none.
    former = User.objects.using(using).select_for_update(no_key=True).filter(pk=instance.pk).first()
    if former and former.password != instance.password:
        kind, client, session = instance.password_event
        log.record(kind, instance, client, session)
        queue(MailKind.PASSWORD_CHANGED, former.email, client)
