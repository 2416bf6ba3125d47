"""What a change of an account requires: the owner's password, and a row that has stayed as it was read."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from tokens.domain import signing_in
from tokens.domain.client import UNKNOWN, Client
from tokens.exceptions import SignInTooOld
from tokens.models import Session

from .models import User


class WrongPassword(ValidationError):
    def __init__(self) -> None:
        message = _("That password is wrong.")
        super().__init__({"current_password": ValidationError(message, "wrong_password")})


class PasswordMissing(ValidationError):
    def __init__(self) -> None:
        super().__init__({"current_password": ValidationError(_("This field is required."), "required")})


def require_password(session: Session, password: str | None, client: Client = UNKNOWN) -> None:
    """Require the password of the session's user or, if there is none, a recent sign-in.

    Call it outside of a transaction: a rollback would undo the count of wrong passwords. Raises PasswordMissing,
    WrongPassword, SignInTooOld or TooManyTries.
    """
    if not session.user.has_usable_password():
        if not signing_in.is_recent(session):
            raise SignInTooOld
    elif password is None:
        raise PasswordMissing
    elif not signing_in.check_password(session.user, password, client):
        raise WrongPassword


def lock_unchanged(user: User, refusal: ValidationError) -> None:
    """Lock the user's row until the end of the transaction; refuse if it has changed since it was read."""
    row = User.objects.select_for_update(no_key=True).filter(
        pk=user.pk,
        password=user.password,
        email=user.email,
        email_verified=user.email_verified,
        is_active=True,
    )
    if row.first() is None:
        raise refusal
