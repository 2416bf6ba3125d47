"""For a project's tests: a client that signs in without a password, and tokens that are refused."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import override_settings
from rest_framework import test

from . import times
from .conf import conf
from .domain import sessions
from .domain.sessions import PASSWORD
from .http import cookies
from .models import Reason, Session, uuid7
from .tokens import AccessToken, RefreshToken

Kind = Literal["access", "refresh"]

KINDS: dict[str, Any] = {"access": AccessToken, "refresh": RefreshToken}
TRANSPORTS = ("header", "cookie")


class APIClient(test.APIClient):
    """DRF's test client, which signs users in without their passwords.

    Its requests ignore the limits on guessing and the rates, unless `limits` is set.
    """

    limits = False
    signed_in: Session | None = None
    """The session that the last `sign_in` began."""

    def sign_in(
        self,
        user: Any,
        *,
        transport: Literal["header", "cookie"] = "header",
        ago: timedelta = timedelta(0),
        amr: Sequence[str] = PASSWORD,
        remembered: bool = True,
    ) -> Session:
        """Begin a session for the user, and send its access token in the header of every request.

        With the transport "cookie" the client also has the refresh token, in its cookie, as a browser does after a
        login. The user signed in that long `ago`, by the methods in `amr` (RFC 8176), and the session was used just
        now. It is not bound to a key. Raises NoActiveAccount for a user who is not active.
        """
        if transport not in TRANSPORTS:
            raise ValueError(f"The transport must be one of {', '.join(TRANSPORTS)}, not {transport!r}.")
        session = self.signed_in = _start(user, ago, amr, remembered)
        header = f"{conf.auth_header_types[0]} {AccessToken.of(session)}"
        self.credentials(**{**self._credentials, conf.auth_header_name: header})  # type: ignore[attr-defined]
        self.cookies.pop(conf.cookie_name, None)
        if transport == "cookie":
            response = HttpResponse()
            cookies.write(response, RefreshToken.of(session))
            self.cookies.update(response.cookies)
        return session

    def end_session(self) -> None:
        """End the session, as its owner does on another device. The client keeps its tokens."""
        if self.signed_in is None:
            raise RuntimeError("This client is not signed in. Call sign_in first.")
        sessions.revoke(self.signed_in, Reason.REVOKED, by=self.signed_in.user)

    def force_authenticate(self, user: Any = None, token: Any = None) -> None:
        """Authenticate every request as that user, regardless of a view's authentication classes.

        A user in the database gets a session, and `request.auth` is its access token, as this package's views need.
        Raises NoActiveAccount for one who is not active.
        """
        if token is None and isinstance(user, get_user_model()) and not user._state.adding:  # noqa: SLF001
            token = AccessToken.of(_start(user))
        super().force_authenticate(user, token)

    def request(self, **kwargs: Any) -> Any:
        with nullcontext() if self.limits else override_settings(TOKENS_THROTTLING=False):
            return super().request(**kwargs)


def expired_token(user: Any, kind: Kind = "access") -> str:
    """Return a token of the user that expired a minute ago."""
    session = _start(user)
    expired_at = times.now() - conf.leeway - timedelta(minutes=1)
    if kind == "refresh":
        session.rotated_at = expired_at - conf.refresh_token_lifetime
        session.expires_at = expired_at.replace(microsecond=0)
        session.save(update_fields=["rotated_at", "expires_at"])
        return str(RefreshToken.of(session))
    token = AccessToken.of(session)
    token["iat"], token["exp"] = (
        int(moment.timestamp()) for moment in (expired_at - conf.access_token_lifetime, expired_at)
    )
    return str(token)


def revoked_token(user: Any, kind: Kind = "access") -> str:
    """Return a token of the user whose session has ended."""
    session = _start(user)
    sessions.revoke(session, Reason.REVOKED, by=user)
    return str(KINDS[kind].of(session))


def reused_token(user: Any, kind: Kind = "refresh") -> str:
    """Return a superseded token of the user: its first use ends the session."""
    session = _start(user)
    session.generation = 1
    token = str(KINDS[kind].of(session))
    session.generation = 2
    session.save(update_fields=["generation"])
    return token


def _start(user: Any, ago: timedelta = timedelta(0), amr: Sequence[str] = PASSWORD, remembered: bool = True) -> Session:
    session = sessions.start(user, amr=amr, remembered=remembered, pk=uuid7(times.now() - ago))
    session.created_at = session.rotated_at - ago
    session.expires_at = session.expiry(session.rotated_at)
    session.save(update_fields=["created_at", "expires_at"])
    return session
