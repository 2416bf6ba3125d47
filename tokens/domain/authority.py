"""What one user may do to another: change the account, end its sessions, have a link sent, take a factor away."""

from collections.abc import Iterable
from copy import copy
from typing import Any, TypeVar

from ..models import User

U = TypeVar("U", bound=User)


def may_act_on(actor: Any, user: Any) -> bool:
    """Return whether the actor may act on this user's account. The caller checks the actor's own permission.

    A superuser may act on everybody. Others may act only on users who have no permission that the actor lacks.
    Otherwise staff could take over an account with more rights, or shut out those who could stop it.
    """
    if actor == user or _is_superuser(actor):
        return True
    return not _is_superuser(user) and _rights(user) <= _rights(actor)


def within_reach(actor: Any, users: Iterable[U]) -> list[U]:
    """Return the users on whose accounts the actor may act."""
    return [user for user in users if may_act_on(actor, user)]


def _is_superuser(user: Any) -> bool:
    return bool(getattr(user, "is_superuser", False))


def _rights(user: Any) -> set[str]:
    """Return the user's permissions. A deactivated user's count too, since the user may be reactivated."""
    active = copy(user)
    active.is_active = True
    return set(active.get_all_permissions()) if hasattr(active, "get_all_permissions") else set()
