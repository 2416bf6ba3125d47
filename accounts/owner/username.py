"""The username."""

from copy import copy

from tokens.domain.outages import retried

from ..models import User
from .judging import claiming, clean


@retried
def change_username(user: User, username: str) -> None:
    changed = copy(user)
    changed.username = username
    clean(changed, "username")
    with claiming(changed):
        changed.save(update_fields=["username"])
    user.username = changed.username
