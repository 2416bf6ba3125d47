"""Why a token is refused. Each reason carries the code that a client sees; all of them are SimpleJWT's `TokenError`."""

from typing import ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError


class TooManyTries(Exception):
    """A limit on guessing was reached; `wait` says in how many seconds there will be another try."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class SecondFactorRequired(Exception):
    """The password was right, and is not enough: a code has to be presented with the challenge."""

    code = "second_factor_required"
    message = _("Enter the code of your second factor.")

    def __init__(self, challenge: str) -> None:
        super().__init__(challenge)
        self.challenge = challenge


class TokenRefused(TokenError):
    code: ClassVar[str]
    message: ClassVar[str | Promise]

    def __init__(self, message: str | Promise | None = None) -> None:
        super().__init__(message or self.message)


class TokenNotValid(TokenRefused):
    code = "token_not_valid"
    message = _("The token is not valid.")


class TokenExpired(TokenRefused, ExpiredTokenError):
    code = "token_expired"
    message = _("The token has expired.")


class TokenRevoked(TokenRefused):
    """The session ended: a logout, a revocation, a changed password, a deactivated or deleted user."""

    code = "token_revoked"
    message = _("The session has ended. Sign in again.")


class TokenReused(TokenRefused):
    """A superseded token came back, so somebody else holds a copy; the session has been revoked on that account."""

    code = "token_reused"
    message = _("The token was used before, so the session has been ended. Sign in again.")


class NoActiveAccount(TokenRefused):
    """The user was deactivated or deleted between the password check and the start of the session."""

    code = "no_active_account"
    message = _("No active account was found for the given credentials.")
