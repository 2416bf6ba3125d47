"""The username."""

from copy import copy

from tokens.domain import events
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried

from .. import kinds
from ..models import User
from .validation import claiming, clean


@retried
def change_username(user: User, username: str, client: Client = UNKNOWN) -> None:
    changed = copy(user)
    changed.username = username
    clean(changed, "username")
    if changed.username == user.username:
        return
    with claiming(changed):
        changed.save(update_fields=["username"])
        events.announce(kinds.USERNAME_CHANGED, user, client)
    user.username = changed.username
