from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from .authentication import CHALLENGE
from .conf import conf


class ReauthenticationRequired(exceptions.APIException):
    """The token is good, and the sign-in behind it too long ago (RFC 9470, section 3).

    Not one of DRF's AuthenticationFailed, which becomes a 403 where a view's first authenticator has no challenge.
    """

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = _("You signed in too long ago for this. Enter your password again.")
    default_code = "reauthentication_required"

    def __init__(self, max_age: timedelta) -> None:
        super().__init__()
        seconds = int(max_age.total_seconds())
        self.auth_header = f'{CHALLENGE}, error="insufficient_user_authentication", max_age="{seconds}"'


class RecentSignIn(IsAuthenticated):
    """Let in whoever has given the password a short while ago, at the login or again since.

    Whoever was let in by something that does not know when that was, as Django's own session, is refused as well.
    Raises ReauthenticationRequired.
    """

    max_age: timedelta | None = None
    """How long ago that may be; None stands for TOKENS_RECENT_SIGN_IN."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        max_age = conf.recent_sign_in if self.max_age is None else self.max_age
        given_at: Any = getattr(request.auth, "authenticated_at", None)
        if given_at is None or timezone.now() - given_at > max_age:
            raise ReauthenticationRequired(max_age)
        return True
