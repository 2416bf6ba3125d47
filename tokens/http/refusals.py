"""The answers to requests whose token or sign-in is refused."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status
from rest_framework_simplejwt.exceptions import InvalidToken

from ..conf import conf
from ..domain import signing_in
from ..exceptions import TokenRefused
from ..jose.dpop import ALGORITHMS
from ..jose.keys import COOLDOWN

DPOP_CHALLENGE = 'DPoP realm="api"'
DPOP_ALGORITHMS = f'algs="{" ".join(ALGORITHMS)}"'
"""The algorithms that may sign the proof of a key (RFC 9449, section 7.1)."""


def challenge() -> str:
    """Return the challenge of a 401 (RFC 6750, section 3): the first scheme in AUTH_HEADER_TYPES."""
    return f'{conf.auth_header_types[0]} realm="api"'


def challenges() -> str:
    """Return the challenges for a request without any credential."""
    return challenge() if conf.dpop == "off" else f"{challenge()}, {DPOP_CHALLENGE}, {DPOP_ALGORITHMS}"


class Refused(InvalidToken):
    """A refused token, as an exception of DRF: any exception handler answers with the code in the body."""

    def __init__(self, refusal: TokenRefused) -> None:
        super().__init__(refusal.args[0], refusal.code)
        self.refusal = refusal


class KeysUnavailable(exceptions.APIException):
    """The issuer's key set, or its feed of ended sessions, can't be fetched. That is no reason to sign users out."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("Tokens can't be verified right now. Try again in a few seconds.")
    default_code = "unavailable"
    wait = COOLDOWN
    """Seconds after which to ask again."""


class ProofsUnavailable(exceptions.APIException):
    """The cache of used proofs can't be reached. That is no reason to sign users out."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("Key proofs can't be verified right now. Try again in a few seconds.")
    default_code = "unavailable"
    wait = 5
    """Seconds after which to ask again."""


class ReauthenticationRequired(exceptions.APIException):
    """The token is good, but its sign-in is too long ago (RFC 9470, section 3).

    It is not an AuthenticationFailed, which DRF turns into a 403 if a view's first authenticator has no challenge.
    """

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = _("This needs a recent sign-in. Enter your password again.")
    with_factor = _("This needs a recent sign-in. Confirm that it's you with your second factor, or sign in again.")
    anew = _("This needs a recent sign-in. Sign in again.")
    default_code = "reauthentication_required"

    def __init__(self, max_age: timedelta, user: Any = None) -> None:
        """Say what the user can do about it, if the user is in this database."""
        detail = None
        if isinstance(user, get_user_model()) and not user.has_usable_password():
            detail = self.with_factor if signing_in.factors_of(user) else self.anew
        super().__init__(detail)
        seconds = int(max_age.total_seconds())
        self.auth_header = f'{challenge()}, error="insufficient_user_authentication", max_age="{seconds}"'
