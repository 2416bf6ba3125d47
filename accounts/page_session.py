"""The shared sign-in of the admin and the browsable API: Django's session names one of ours, and ends with it.

Browsers don't send the refresh token's cookie to these pages, and the access token is in another page's memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import auth
from django.contrib.auth import middleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from tokens.domain import sessions
from tokens.domain.signing_in import Opened
from tokens.exceptions import TokenRefused, TokenRevoked
from tokens.http import exchange
from tokens.http.requests import client_of
from tokens.models import Reason, Session

from .models import User

SID = "sid"
"""The entry of Django's session that names ours."""

FOUND = "page_session"
"""The attribute of a request that caches its pass."""


@dataclass(frozen=True)
class Pass:
    """Authenticates a page's request: the counterpart of an access token."""

    session: Session

    @property
    def authenticated_at(self) -> datetime:
        """When the user last gave the password."""
        return self.session.authenticated_at


def current(request: HttpRequest) -> Pass | None:
    """Return the pass of the request's cookie, if its session is live. This puts off the session's end.

    If the session has ended, Django's session ends too.
    """
    found = vars(request)
    if FOUND not in found:
        found[FOUND] = _read(request)
    page_pass: Pass | None = found[FOUND]
    return page_pass


def _read(request: HttpRequest) -> Pass | None:
    kept = request.session
    if auth.SESSION_KEY not in kept:
        return None
    try:
        session = _alive(kept[SID], kept[auth.SESSION_KEY], request)
    except (KeyError, TokenRefused):  # a KeyError: it is older than the sessions of the admin's sign-ins
        kept.flush()
        return None
    if kept.get_expiry_date() != session.expires_at:
        kept.set_expiry(session.expires_at)
    return Pass(session)


def _alive(sid: str, sub: str, request: HttpRequest) -> Session:
    session = sessions.extend({"sid": sid, "sub": sub}, client_of(request))
    user: Any = session.user
    if user.awaiting_verification:
        raise TokenRevoked
    return session


def begin(request: HttpRequest, user: User, amr: Sequence[str], opened: Opened | None = None) -> None:
    """Begin a session for a user whose credentials have been verified. Call Django's `login()` next.

    The session that the browser had before ends. `opened` is the challenge that was answered, if one was.
    Raises NoActiveAccount; and IntegrityError if the challenge has opened a session.
    """
    former = current(request)
    session = sessions.start(
        user,
        client_of(request),
        amr,
        replaced=former.session if former else None,
        authenticated_at=opened.terms.authenticated_at if opened else None,
        pk=opened.session if opened else None,
    )
    vars(request)[FOUND] = Pass(session)


def go_on(request: HttpRequest, session: Session) -> None:
    """Make Django's session name that session, under a new key, so that a copy of the former cookie is useless."""
    request.session.cycle_key()
    request.session[SID] = str(session.pk)
    request.session.set_expiry(session.expires_at)
    vars(request)[FOUND] = Pass(session)


@receiver(user_logged_in)
def name_session(request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Begin a session for every sign-in by Django's `login()`, whatever code calls it. Raises NoActiveAccount."""
    begun: Pass | None = vars(request).get(FOUND)
    if begun is None or begun.session.user_id != user.pk:
        begun = Pass(sessions.start(user, client_of(request)))
    else:
        exchange.keep_out(request)  # a form of these pages has begun it, for them alone
    go_on(request, begun.session)


@receiver(user_logged_out)
def end_session(request: HttpRequest, **kwargs: Any) -> None:
    if page_pass := current(request):
        sessions.revoke(page_pass.session, Reason.LOGOUT, client_of(request), page_pass.session.user)


class AuthenticationMiddleware(middleware.AuthenticationMiddleware):
    """Django's, but the user comes from our session, which is read when the user is first needed."""

    def process_request(self, request: HttpRequest) -> None:
        request.user = SimpleLazyObject(partial(_user_of, request))  # type: ignore[assignment]
        request.auser = partial(_auser_of, request)


def _user_of(request: HttpRequest) -> Any:
    page_pass = current(request)
    return page_pass.session.user if page_pass else AnonymousUser()


async def _auser_of(request: HttpRequest) -> Any:
    return await sync_to_async(_user_of)(request)
