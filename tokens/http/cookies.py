"""The cookie that carries the refresh token, out of the reach of scripts."""

import re
from http.cookies import Morsel
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from .. import times
from ..conf import conf
from ..exceptions import TokenNotValid, TokenRefused
from ..jose import simplejwt
from ..tokens import RefreshToken
from .requests import client_of

# Python has the attribute since 3.14.
Morsel._reserved.setdefault("partitioned", "Partitioned")  # type: ignore[attr-defined]  # noqa: SLF001
Morsel._flags.add("partitioned")  # type: ignore[attr-defined]  # noqa: SLF001


class RefreshTokenMissing(TokenRefused):
    code = "refresh_token_missing"
    message = _("The refresh token cookie is missing. Sign in.")


def read(request: HttpRequest | Request) -> str:
    """Return the refresh token as it was sent, unverified: from our cookie, or else from a former one.

    Raises RefreshTokenMissing or TokenNotValid.
    """
    for name in (conf.cookie_name, *(conf.legacy["COOKIES"] if conf.legacy else ())):
        if token := find(request, name):
            return token
    raise RefreshTokenMissing


def find(request: HttpRequest | Request, name: str) -> str | None:
    """Return the value of the cookie of that name, whose value needs no quotes; None if there is none.

    Raises TokenNotValid if there are two: another host of the site can plant one, and the browser decides which comes
    first (RFC 6265, section 8.6). Servers join several Cookie lines with a comma. A comma before another cookie ends
    the value; any other comma is part of it.
    """
    header = request.META.get("HTTP_COOKIE", "")
    values = re.findall(rf"(?:^|[;,])\s*{re.escape(name)}\s*=\s*([^;]*?)(?=;|$|,\s*[^\s;,=]+\s*=)", header)
    values = [value.strip().strip('"') for value in values]
    # A former cookie may have our name, and another path.
    values = [value for value in values if not simplejwt.kind(value)] or values
    if len(values) > 1:
        raise TokenNotValid
    return values[0] if values else None


def former(request: HttpRequest | Request) -> dict[str, Any] | None:
    """Return the claims of the genuine refresh token in the request of a sign-in, whatever its generation."""
    try:
        # With the client, the session of a former cookie begins, so that it can end. No later logout may leave it
        # valid.
        return RefreshToken.claims(read(request), client_of(request))
    except TokenRefused:
        return None


def write(response: HttpResponseBase, token: RefreshToken) -> None:
    """Set the cookie for as long as its token is good, or until the browser ends, as chosen at the login."""
    age = times.now() - token.session.rotated_at
    remaining = token.expires_in - int(age.total_seconds())
    _set(response, str(token), remaining if token.session.remembered else None)


def clear(response: HttpResponseBase) -> None:
    _set(response, "", 0)


def _set(response: HttpResponseBase, value: str, max_age: int | None) -> None:
    samesite = conf.cookie_samesite
    response.set_cookie(
        conf.cookie_name,
        value,
        max_age=max_age,
        path=conf.cookie_path,
        secure=conf.cookie_secure,
        httponly=True,
        samesite=samesite,
    )
    if samesite == "None":
        # Browsers that block cookies of other sites accept one that is partitioned by site (CHIPS).
        response.cookies[conf.cookie_name]["partitioned"] = True
