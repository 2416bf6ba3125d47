from collections.abc import Iterable
from copy import copy
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db import router
from django.db.models import Model
from django.db.models.signals import post_save, pre_delete, pre_save
from django.dispatch import receiver
from django.http import HttpRequest

from .domain import cutoffs, events, feed, sessions, users
from .domain.client import UNKNOWN, Client
from .domain.outlasting import outlast
from .http import exchange
from .http.requests import client_of
from .models import Reason, SecurityEvent, Session


def listen(models: Iterable[type[Model]]) -> None:
    """Receive the signals of users, whichever of their models saves or deletes them.

    A receiver of the user model does not get the signals of its proxies and children. A receiver of all models would
    make every deletion in the project fetch its rows first.
    """
    for model in models:
        if users.is_user(model):
            pre_delete.connect(lock_for_deletion, model)
        if users.is_user(model) or users.is_inherited_by_users(model):
            pre_save.connect(note_changed_password, model)
            post_save.connect(revoke_sessions_of_deactivated, model)
            post_save.connect(publish_password_change, model)


def revoke_sessions_of_deactivated(
    instance: Model, raw: bool, using: str, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Revoke the sessions of deactivated or hidden users: a reactivation must not restore them."""
    user = None if raw else users.saved_through(instance, using)
    if user is None:
        return
    is_deactivated = not user.is_active and (update_fields is None or "is_active" in update_fields)
    if is_deactivated or not users.is_shown(user, using):
        sessions.revoke_all(user, Reason.DEACTIVATED)


def note_changed_password(
    instance: Model, raw: bool, using: str, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Make a changed password end SimpleJWT's tokens too: those without a row have no `auth_hash` to show it."""
    if raw or not cutoffs.are_kept() or not (update_fields is None or "password" in update_fields):
        return
    user = users.saved_through(instance, using)
    stored = user and users.rows(using).filter(pk=user.pk).first()
    if stored is None:
        return
    changed = copy(stored)
    changed.password = getattr(instance, "password", stored.password)
    if changed.get_session_auth_hash() != stored.get_session_auth_hash():
        cutoffs.note_change(stored)


def publish_password_change(
    instance: Model, raw: bool, created: bool, using: str, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Publish the sessions that a changed password has ended. Their rows stay as they are."""
    may_have_changed = update_fields is None or "password" in update_fields
    if raw or created or not may_have_changed or not feed.is_read():
        return
    user = users.saved_through(instance, using)
    if user is not None:
        sessions.publish_password_change(user)


def lock_for_deletion(instance: Model, using: str, **kwargs: Any) -> None:
    """Lock everything that could insert rows for the user between the sessions' deletion and the user's.

    Locked in the usual order: the user, against parallel logins; the sessions, whose revocation may still be logged;
    then the user again, against new rows of the log.
    """
    user = users.rows(using).filter(pk=instance.pk)
    user.select_for_update(no_key=True).first()
    held = Session.objects.using(using).filter(user_id=instance.pk).select_for_update(of=("self",)).order_by("pk")
    sessions.publish_deletion(list(held))
    user.select_for_update().first()


@receiver(user_login_failed)
def record_failed_login(
    credentials: dict[str, Any], request: HttpRequest | None = None, client: Client = UNKNOWN, **kwargs: Any
) -> None:
    name = credentials.get(get_user_model().USERNAME_FIELD)
    announce = partial(events.announce_failed_login, name, client_of(request) if request else client)
    announce()
    outlast(announce, router.db_for_write(SecurityEvent))


@receiver(user_logged_in)
def stamp_sign_in(request: HttpRequest | None, user: Any, **kwargs: Any) -> None:
    exchange.stamp(request, user)
