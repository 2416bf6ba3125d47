"""The cookie that carries the refresh token, out of the reach of scripts."""

import re

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from ..conf import conf
from ..exceptions import TokenNotValid, TokenRefused
from ..tokens import RefreshToken


class RefreshTokenMissing(TokenRefused):
    code = "refresh_token_missing"
    message = _("The refresh token's cookie is missing. Sign in.")


def read(request: HttpRequest | Request) -> str:
    """Return the refresh token as it was sent, unverified.

    Raises RefreshTokenMissing; and TokenNotValid if there are two cookies of that name, since another host of the site
    can plant one, and which of them comes first is not ours to say (RFC 6265, section 8.6).
    """
    token = request.COOKIES.get(conf.cookie_name)
    if not token:
        raise RefreshTokenMissing
    if len(re.findall(rf"(?:^|[;,])\s*{re.escape(conf.cookie_name)}\s*=", request.META["HTTP_COOKIE"])) > 1:
        raise TokenNotValid
    return token


def write(response: HttpResponseBase, token: RefreshToken) -> None:
    """Set the cookie for as long as its token is good, or until the browser ends, as was asked for at the login."""
    age = timezone.now() - token.session.rotated_at
    remaining = token.expires_in - int(age.total_seconds())
    _set(response, str(token), remaining if token.session.remembered else None)


def clear(response: HttpResponseBase) -> None:
    _set(response, "", 0)


def _set(response: HttpResponseBase, value: str, max_age: int | None) -> None:
    response.set_cookie(
        conf.cookie_name,
        value,
        max_age=max_age,
        path=conf.cookie_path,
        secure=conf.cookie_secure,
        httponly=True,
        samesite="Strict",
    )
