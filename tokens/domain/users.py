"""Finds the users of sessions: the rows that `user_id` names, whichever manager hides or model saves them."""

from typing import Any, cast
from unicodedata import normalize

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DataError, router
from django.db.models import CharField, Manager, Model, QuerySet, TextField

from ..models import User


def rows(using: str) -> QuerySet[User]:
    """Return all rows of users, including those that the model's default manager hides."""
    users: QuerySet[User] = get_user_model()._base_manager.using(using)
    return users


def shown(using: str) -> QuerySet[User]:
    """Return the users that the model's default manager shows."""
    return get_user_model()._default_manager.using(using)


def is_shown(user: User, using: str) -> bool:
    """Return whether the default manager shows the user. A manager that hides nobody costs no statement."""
    return not hides_some() or shown(using).filter(pk=user.pk).exists()


def hides_some() -> bool:
    """Return whether the default manager leaves anybody out."""
    manager: Any = get_user_model()._default_manager
    # Django's own manager hides nobody, so its query is not built in each request.
    own = type(manager).get_queryset is not Manager.get_queryset
    return own and bool(manager.all().query.where)


def named(name: Any, among: QuerySet[User] | None = None) -> User | None:
    """Return the user of that name, or None; among the rows that the default manager shows, or among others.

    Text that can't be a name in this user model or this database gets None too.
    """
    model = get_user_model()
    # A replica may lag behind a password or a deactivation.
    manager: Any = model._default_manager.db_manager(router.db_for_write(model))
    try:
        if among is None:
            user: User | None = manager.get_by_natural_key(as_name(name))
        else:
            user = among.filter(**{model.USERNAME_FIELD: as_name(name)}).first()
    except (model.DoesNotExist, ValidationError, ValueError, DataError):
        return None
    return user


def as_name(name: Any) -> Any:
    """Return the name as the user model's type, which may be a number. Raises ValidationError for what can't be one."""
    model = get_user_model()
    field: Any = model._meta.get_field(model.USERNAME_FIELD)
    return name if isinstance(field, CharField | TextField) else field.clean(name, None)


def key_of(identifier: str) -> str:
    """Return the form of a name that the look-up compares, so a limit counts all its spellings together.

    That is what the default manager's `key_of(identifier)` returns. Without such a method, it is the name without
    regard to case, composition and width.
    """
    fold = getattr(get_user_model()._default_manager, "key_of", None)
    # Decomposed first, so that the marks are in order before folding makes a letter of one (the Greek iota subscript).
    return str(fold(identifier) if fold else normalize("NFKC", normalize("NFKD", identifier).casefold()))


def is_user(model: type[Model]) -> bool:
    """Return whether the model's rows are users: the user model, a proxy or a child of it."""
    return issubclass(model, get_user_model())


def is_inherited_by_users(model: type[Model]) -> bool:
    """Return whether the user model inherits fields from that model, whose rows may be saved by themselves."""
    return issubclass(get_user_model(), model)


def saved_through(instance: Model, using: str) -> User | None:
    """Return the user to whom a row of one of these models belongs; None if there is none."""
    user_model, model = get_user_model(), type(instance)._meta.concrete_model
    if isinstance(instance, user_model):
        return instance
    link = user_model._meta.get_ancestor_link(cast(Any, model))
    return rows(using).filter(**{link.name if link else "pk": instance.pk}).first()
