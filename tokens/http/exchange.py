"""Exchanges a sign-in in Django's own session for a session of ours."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.contrib import auth
from django.db import router
from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated

from .. import times
from ..conf import conf, resolve
from ..domain import signing_in, users
from ..domain.client import Client
from ..domain.sessions import Claims
from ..domain.signing_in import ClaimsFor, Terms
from ..exceptions import NotExchangeable, SecondFactorRequired
from ..models import Session, User, uuid7

STAMP = "latchkey.signed_in"
"""The entry of Django's session with the time of its sign-in, and the key of our session that it may become."""

PAGES = frozenset({"admin", "rest_framework"})
"""Apps whose sign-in is only for their own pages: Django's admin, and DRF's browsable API."""

KEPT_OUT = "latchkey_kept_out"
"""Marks a request whose sign-in must not be stamped, in whatever order the receivers of `user_logged_in` run."""

AMR_LENGTH = 30
"""The most characters of the methods, separated by spaces. Those of a second step still fit."""


@dataclass(frozen=True)
class SignIn:
    user: User
    since: datetime
    pk: UUID
    """The key of our session that it becomes."""


def stamp(request: Any, user: Any) -> None:
    """Record the time of a sign-in by Django's `login()` in its session, unless it is only for an app's own pages."""
    if not conf.session_exchange or not _holds(request, user):
        return
    match = getattr(request, "resolver_match", None)
    if getattr(request, KEPT_OUT, False) or (match and PAGES.intersection(match.app_names)):
        keep_out(request)
    else:
        request.session[STAMP] = [times.now().timestamp(), str(uuid7())]


def keep_out(request: HttpRequest) -> None:
    """Prevent the exchange of the request's sign-in, and of an earlier one in the same session."""
    setattr(request, KEPT_OUT, True)
    request.session.pop(STAMP, None)


def exchange(
    request: HttpRequest, client: Client, terms: Terms, claims_for: ClaimsFor | None, former: Claims | None = None
) -> Session:
    """Begin a session for the user of the request's Django session.

    The Django session ends, even if the answer is a challenge. Raises NotAuthenticated, NotExchangeable or
    SecondFactorRequired.
    """
    signed_in, amr = find(request), methods_of(request)
    try:
        session = signing_in.exchange(
            signed_in.user, client, terms, amr, claims_for, since=signed_in.since, pk=signed_in.pk, former=former
        )
    except (NotExchangeable, SecondFactorRequired):
        auth.logout(request)
        raise
    auth.logout(request)
    return session


def find(request: HttpRequest) -> SignIn:
    """Return the sign-in of the request's Django session. Raises NotAuthenticated or NotExchangeable."""
    user = user_of(request)
    if STAMP not in request.session:
        raise NotExchangeable
    at, pk = request.session[STAMP]
    # The clock of the server that recorded it may have been ahead.
    return SignIn(user, min(datetime.fromtimestamp(at, UTC), times.now()), UUID(pk))


def user_of(request: HttpRequest) -> User:
    """Return the row of the user of the request's Django session. Raises NotAuthenticated or NotExchangeable."""
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated or not _holds(request, user):
        raise NotAuthenticated
    row = users.shown(router.db_for_write(Session)).filter(pk=user.pk).first()
    if row is None:
        raise NotExchangeable
    return row


def methods_of(request: HttpRequest) -> list[str]:
    """Return how the user signed in, by the project's function; empty without one.

    Raises NotExchangeable if it refuses.
    """
    if not conf.session_exchange:
        return []
    returned = resolve(conf.session_exchange)(request)
    if returned is None:
        raise NotExchangeable
    amr = [] if isinstance(returned, str) else [*returned]
    if isinstance(returned, str) or not all(map(_is_method, amr)) or len(" ".join(amr)) > AMR_LENGTH:
        raise TypeError(
            f"{conf.session_exchange} must return names from RFC 8176, such as ['pwd', 'otp'], with at most "
            f"{AMR_LENGTH} characters in total, or None; not {returned!r}."
        )
    return amr


def _is_method(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isalnum()


def _holds(request: Any, user: Any) -> bool:
    """Return whether the user is the one in the request's session: a middleware may have set another."""
    kept = getattr(request, "session", None)
    return kept is not None and kept.get(auth.SESSION_KEY) == user._meta.pk.value_to_string(user)
