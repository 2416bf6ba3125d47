"""Validates names, addresses and passwords. Refusals are ValidationErrors by field."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from ..models import User


def validate_account(user: User, password: str, undisclosed: Collection[str] = ()) -> None:
    """Validate a new account. For the fields `undisclosed`, it does not say that another account has the value."""
    errors: dict[str, list[ValidationError]] = {}
    validations: list[Callable[[], None]] = [
        lambda: user.clean_fields(exclude=_all_but("username", "email")),
        lambda: user.validate_unique(exclude={*undisclosed, *errors}),
        lambda: validate_password(user, password, "password"),
    ]
    for validate in validations:
        try:
            validate()
        except ValidationError as error:
            error.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def validate_password(user: User, password: str, field: str) -> None:
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise ValidationError({field: error.error_list}) from error


def clean(user: User, *fields: str) -> None:
    user.full_clean(exclude=_all_but(*fields))


def _all_but(*fields: str) -> set[str]:
    return {field.name for field in User._meta.fields}.difference(fields)


@contextmanager
def claiming(user: User, undisclosed: Collection[str] = ()) -> Iterator[None]:
    """Run a transaction that takes a name. The loser of a race gets the same error as a later request.

    For the fields `undisclosed`, no error may say that another account has the value, so the IntegrityError stays.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        user.validate_unique(exclude=undisclosed)
        raise
