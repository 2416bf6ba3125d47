"""What happened to an account, told to its owner by mail where the table of kinds has a notice; the setting NOTICES
names those that are sent."""

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
    if user.email and user.email_verified:  # Otherwise the address may be a stranger's.
        client = Client(event.ip_address, event.user_agent)
        outbox.queue(notice.name, user.email, client, session=event.session, at=event.created_at)
