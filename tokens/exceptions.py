"""Why a sign-in or a token is refused.

The exceptions that refuse a token are `TokenError`s and carry the code for the client. SimpleJWT's own exceptions can
be imported from here too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework_simplejwt import exceptions as simplejwt

TokenError = simplejwt.TokenError
ExpiredTokenError = simplejwt.ExpiredTokenError
TokenBackendError = simplejwt.TokenBackendError
TokenBackendExpiredToken = simplejwt.TokenBackendExpiredToken
DetailDictMixin = simplejwt.DetailDictMixin
AuthenticationFailed = simplejwt.AuthenticationFailed
InvalidToken = simplejwt.InvalidToken


class NotSupported(TypeError):
    """A part of SimpleJWT that this package does not have. The message names what to use instead."""


class TooManyTries(Exception):
    """A limit on guessing was reached. `wait` is the number of seconds until the next try."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class InvalidCredentials(Exception):
    """The name is unknown, the password wrong, or the user deactivated. The client can't see which."""


class SecondFactorRequired(Exception):
    """The password was right but not enough: the client has to answer the challenge by one of the methods."""

    code = "second_factor_required"
    message = _("Enter the code from your authenticator app, or a recovery code.")

    def __init__(self, challenge: str, methods: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> None:
        super().__init__(challenge)
        self.challenge, self.methods, self.options = challenge, methods, options or {}


class AnswerNotValid(Exception):
    """A second factor is wrong, or was used before."""

    field: ClassVar[str]
    """Its field in the answer."""

    by_field: ClassVar[bool] = True
    """Whether a signed-in client gets 400 for that field, as for a typing error, instead of 401."""

    code: ClassVar[str]
    message: ClassVar[Any]


class ChallengeNotValid(Exception):
    """The challenge is not ours, has expired, or the password or second factor has changed since."""

    code = "invalid_challenge"
    message = _("This sign-in has expired. Enter your password again.")


class NotExchangeable(Exception):
    """A Django session can't become one of ours: it was used before, is only for pages, or is refused."""

    code = "session_not_exchangeable"
    message = _("This sign-in can't be used here. Sign in again.")


class SignInTooOld(Exception):
    """The user signed in too long ago for this."""


class CursorExpired(Exception):
    """The feed no longer goes back to that cursor. The reader starts again without one."""


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
    """A superseded token was presented, so there is a copy of it. The session has been revoked."""

    code = "token_reused"
    message = _("This token was already used, so we ended the session. Sign in again.")


class NoActiveAccount(TokenRefused):
    """The user was deactivated or deleted between the password check and the start of the session."""

    code = "no_active_account"
    message = _("No active account matches these credentials.")


class ProofRefused(TokenRefused):
    """There is no valid proof of the key to which the session is, or will be, bound (RFC 9449).

    The session goes on, since the sender may not be its owner.
    """

    error: ClassVar[str]
    """The `error` of the challenge in the answer."""


class ProofRequired(ProofRefused):
    code = "dpop_proof_required"
    message = _("This request needs a key proof in the DPoP header.")
    error = "invalid_token"


class ProofNotValid(ProofRefused):
    code = "invalid_dpop_proof"
    message = _("The key proof is not valid.")
    error = "invalid_dpop_proof"


class KeyMismatch(ProofRefused):
    code = "dpop_key_mismatch"
    message = _("The key proof was signed with a different key from the token's.")
    error = "invalid_token"


class NonceRequired(ProofRefused):
    code = "use_dpop_nonce"
    message = _("The key proof needs the nonce sent with this response.")
    error = "use_dpop_nonce"


class ReplayStoreUnreachable(Exception):
    """The cache of used proofs does not answer. That says nothing about the proof."""
