"""Mails the owner about events whose kind has a notice. The setting NOTICES names the ones to send."""

from typing import Any

from django.conf import settings
from django.dispatch import receiver

from tokens.domain.client import Client
from tokens.kinds import TABLE
from tokens.models import SecurityEvent
from tokens.signals import event_announced

from ..models import User
from . import outbox


@receiver(event_announced)
def queue(event: SecurityEvent, **kwargs: Any) -> None:
    notice = TABLE[event.kind].notice
    if notice is None or not {"all", notice.name}.intersection(settings.NOTICES):
        return
    user: User = event.user
    if user.email and user.email_verified:  # An unverified address may be a stranger's.
        client = Client(event.ip_address, event.user_agent)
        outbox.queue(notice.name, user.email, client, session=event.session, at=event.created_at)
