from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from . import times
from .conf import conf
from .domain import signing_in
from .http.refusals import ReauthenticationRequired


class RecentSignIn(IsAuthenticated):
    """Allow users who gave their password recently, at the login or later.

    A user with a second factor must have used it too. Authentication that does not know the time of the sign-in, like
    Django's session, is refused. Raises ReauthenticationRequired.
    """

    max_age: timedelta | None = None
    """How long ago that may be; None means TOKENS_RECENT_SIGN_IN."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        max_age = conf.recent_sign_in if self.max_age is None else self.max_age
        given_at: Any = getattr(request.auth, "authenticated_at", None)
        # A time in the future comes from a wrong clock.
        if given_at is None or not -times.CLOCK_SKEW <= times.now() - given_at <= max_age:
            raise ReauthenticationRequired(max_age, request.user)
        session = getattr(request.auth, "session", None) if isinstance(request.user, get_user_model()) else None
        if session and not signing_in.took_all_factors(session):
            raise ReauthenticationRequired(max_age, request.user)
        return True
