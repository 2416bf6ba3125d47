"""Locking the row of a user whose credentials have been judged, against what changes it meanwhile."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from .models import User


class WrongPassword(ValidationError):
    def __init__(self) -> None:
        message = _("This is not your password.")
        super().__init__({"current_password": ValidationError(message, "wrong_password")})


def hold(user: User, refusal: ValidationError) -> None:
    """Lock the user's row until the end of the transaction; refuse if it no longer is as it was judged."""
    row = User.objects.select_for_update(no_key=True).filter(
        pk=user.pk,
        password=user.password,
        email=user.email,
        email_verified=user.email_verified,
        is_active=True,
    )
    if row.first() is None:
        raise refusal
