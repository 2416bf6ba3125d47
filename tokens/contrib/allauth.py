"""A token strategy for django-allauth's headless API, whose app clients get the tokens of our sessions."""

from typing import Any

from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.headless.tokens.strategies.sessions import SessionTokenStrategy
from django.contrib import auth
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.base import SessionBase
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from .. import times
from ..domain import sessions, signing_in
from ..domain.outages import OUTAGES
from ..exceptions import NotExchangeable, ProofRefused, SecondFactorRequired, TokenRefused
from ..http import exchange, proofs
from ..http.errors import answer
from ..http.requests import client_of
from ..models import Reason, Session, uuid7
from ..serializers import claims_set_in, login_succeeded, obtain_serializer
from ..tokens import RefreshToken
from ..views import TokenRefreshView

SID = "latchkey.sid"
"""The entry of allauth's session that names ours. The key of allauth's session is the session token."""

OUTCOME = "latchkey_outcome"
"""The attribute of a request for the session that it began, or the answer that refuses it."""


class TokenStrategy(SessionTokenStrategy):  # type: ignore[misc]
    """Begin a session of ours when allauth has signed a user in. If one of the two sessions ends, so does the other."""

    def create_access_token_payload(self, request: HttpRequest) -> dict[str, Any]:
        # allauth may drop the answer and call this again.
        outcome = vars(request)[OUTCOME] = vars(request).get(OUTCOME) or _begin(request)
        if isinstance(outcome, HttpResponse):
            raise ImmediateHttpResponse(outcome)
        refresh = RefreshToken.of(outcome)
        access = refresh.access_token
        return {"access_token": str(access), "refresh_token": str(refresh), "expires_in": access.expires_in}

    def lookup_session(self, session_token: str) -> SessionBase | None:
        try:
            kept = super().lookup_session(session_token) if session_token.isprintable() else None
            return None if kept is None or (SID in kept and not _session_in(kept)) else kept
        except OUTAGES as error:
            raise ImmediateHttpResponse(answer(error)) from error

    def refresh_token(self, refresh_token: str) -> tuple[str, str] | None:
        serializer_class = TokenRefreshView().get_serializer_class()
        serializer = serializer_class(data={"refresh": refresh_token}, context={"request": context.request})
        try:
            serializer.is_valid(raise_exception=True)
        except (ProofRefused, *OUTAGES) as error:
            raise ImmediateHttpResponse(answer(error)) from error
        except TokenRefused:
            return None
        tokens = serializer.validated_data
        return tokens["access"], tokens.get("refresh", refresh_token)


def _begin(request: HttpRequest) -> Session | HttpResponse:
    """Return the session of the user whom allauth has just signed in, or the answer that refuses it."""
    try:
        terms = signing_in.Terms(jkt=proofs.key_for_session(request))
        amr = exchange.methods_of(request)
        user, claims_for = exchange.user_of(request), claims_set_in(obtain_serializer())
        session = signing_in.exchange(user, client_of(request), terms, amr, claims_for, since=times.now(), pk=uuid7())
    except OUTAGES as error:
        return answer(error)
    except (TokenRefused, SecondFactorRequired, NotExchangeable) as error:
        request.session.flush()  # not logout(): allauth would not call this again without a user
        return answer(error)
    exchange.keep_out(request)
    request.session[SID] = str(session.pk)
    login_succeeded(session.user, request)
    return session


def _session_in(kept: SessionBase) -> Session | None:
    """Return our session that allauth's names, if it is active."""
    try:
        session = sessions.find({"sid": kept[SID], "sub": kept[auth.SESSION_KEY], "token_type": "access"})
    except TokenRefused:
        return None
    return session if session.expires_at > times.now() else None


@receiver(user_logged_out)
def end_session(request: HttpRequest, **kwargs: Any) -> None:
    kept = getattr(request, "session", None)  # which is nothing where a login by token ends
    if kept is not None and SID in kept and (session := _session_in(kept)):
        sessions.revoke(session, Reason.LOGOUT, client_of(request), session.user)
