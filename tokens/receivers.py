from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver
from django.http import HttpRequest

from .domain import events, sessions
from .domain.client import UNKNOWN, Client
from .http.requests import client_of
from .models import Reason, Session, User


@receiver(post_save, sender=settings.AUTH_USER_MODEL)
def end_sessions_of_deactivated(
    instance: User, created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """End the sessions for good: the guard already refuses an inactive user, but a later reactivation restores none."""
    if not (instance.is_active or created or raw) and (update_fields is None or "is_active" in update_fields):
        sessions.revoke_all(instance, Reason.DEACTIVATED)


@receiver(pre_delete, sender=settings.AUTH_USER_MODEL)
def lock_for_deletion(instance: User, using: str, **kwargs: Any) -> None:
    """Let nothing come between the deletion of the sessions and that of the user: it would refer to nobody.

    Locked in the order in which everybody locks them: the user, who is then left to logins under way no more; the
    sessions, whose revocation may yet be logged; and the user against any new line of the log.
    """
    user = get_user_model()._default_manager.using(using).filter(pk=instance.pk)
    user.select_for_update(no_key=True).first()
    list(Session.objects.using(using).filter(user_id=instance.pk).select_for_update(of=("self",)).order_by("pk"))
    user.select_for_update().first()


@receiver(user_login_failed)
def record_failed_login(
    credentials: dict[str, Any], request: HttpRequest | None = None, client: Client = UNKNOWN, **kwargs: Any
) -> None:
    name = credentials.get(get_user_model().USERNAME_FIELD)
    events.announce_failed_login(name, client_of(request) if request else client)
