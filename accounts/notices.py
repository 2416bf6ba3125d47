"""Mails that tell the owner of an account what happened to it; the setting NOTICES names those that are sent."""

from typing import Any

from django.conf import settings
from django.db.models.signals import post_save
from django.dispatch import receiver

from tokens.models import Reason, Session
from tokens.signals import session_started, sessions_revoked

from . import outbox
from .models import MailKind, User


def queue(kind: MailKind, address: str, session: Session | None = None) -> None:
    """Have the notice sent, if there is an address and the setting does not leave it out."""
    if address and kind in settings.NOTICES:
        outbox.queue(kind, address, session)


@receiver(session_started)
def tell_of_sign_in(session: Session, **kwargs: Any) -> None:
    # Whether the device is a new one is found out when the mail is sent, so that a login does not wait for it.
    queue(MailKind.NEW_SIGN_IN, session.user.email, session)


@receiver(sessions_revoked)
def tell_of_reuse(sessions: list[Session], reason: Reason, **kwargs: Any) -> None:
    if reason == Reason.REUSED:
        for session in sessions:
            queue(MailKind.TOKEN_REUSED, session.user.email, session)


@receiver(post_save, sender=User)
def tell_of_password_change(instance: User, created: bool, raw: bool, **kwargs: Any) -> None:
    # Django keeps the new password in this attribute while it saves, by whatever route it was set.
    if not (created or raw) and getattr(instance, "_password") is not None:  # noqa: B009 (no stub knows it)
        queue(MailKind.PASSWORD_CHANGED, instance.email)
