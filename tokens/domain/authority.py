"""What one user may do to another: change the account, end its sessions, have a link sent, take a factor away."""

from collections.abc import Iterable
from copy import copy
from typing import Any, TypeVar

from ..models import User

U = TypeVar("U", bound=User)


def may_act_on(actor: Any, user: Any) -> bool:
    """Return whether the actor may do such things to the user, if the actor may do them at all.

    A superuser may, and everybody else to those who may do nothing that the actor may not: staff would otherwise get
    rights by taking over who has them, and get rid of those who could stop it.
    """
    if actor == user or _is_superuser(actor):
        return True
    return not _is_superuser(user) and _rights(user) <= _rights(actor)


def within_reach(actor: Any, users: Iterable[U]) -> list[U]:
    """Return those of the users to whom the actor may do such things."""
    return [user for user in users if may_act_on(actor, user)]


def _is_superuser(user: Any) -> bool:
    return bool(getattr(user, "is_superuser", False))


def _rights(user: Any) -> set[str]:
    """Return the permissions of the user, those of a deactivated one too, who may be reactivated."""
    judged = copy(user)
    judged.is_active = True
    return set(judged.get_all_permissions()) if hasattr(judged, "get_all_permissions") else set()
