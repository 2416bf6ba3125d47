from typing import Any

from django.conf import settings
from django.db.models.signals import post_save
from django.dispatch import receiver

from . import sessions
from .models import Reason, User


@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def end_sessions_of_deactivated(
    instance: User, created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """End the sessions for good: the guard already refuses an inactive user, but a later reactivation restores none."""
    if not (instance.is_active or created or raw) and (update_fields is None or "is_active" in update_fields):
        sessions.revoke_all(instance, Reason.DEACTIVATED)
