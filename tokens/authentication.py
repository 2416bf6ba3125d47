"""The guard: who may pass with an access token in the header."""

from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any
from urllib.parse import unquote_plus

from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions
from rest_framework.authentication import BasicAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt import authentication as simplejwt
from rest_framework_simplejwt.models import TokenUser

from .conf import conf
from .domain import sessions
from .domain.client import Client
from .exceptions import TokenRefused
from .http.refusals import CHALLENGE, KeysUnavailable, Refused
from .http.requests import client_of
from .jose.keys import KeySetUnreachable
from .tokens import AccessToken


class JWTAuthentication(simplejwt.JWTAuthentication):
    """Let in whoever holds an access token of a live session: one SELECT, of the session joined with its user.

    A revocation, a deactivation and a changed password work on the next request. `request.auth` is the AccessToken,
    `request.auth.session` its session.
    """

    confirms = True
    """Whether being let in counts as a use of the token; off where the view may yet refuse the credentials."""

    def authenticate(self, request: Request) -> tuple[Any, AccessToken] | None:
        """Return the user and the token; None if the header holds no token of ours.

        Raises Refused or KeysUnavailable.
        """
        raw_token = self.get_raw_token(request.META.get(conf.auth_header_name, ""))
        if raw_token is None:
            return None
        try:
            return self.judge(AccessToken.claims(raw_token), client_of(request))
        except TokenRefused as refusal:
            raise Refused(refusal) from refusal
        except KeySetUnreachable as error:
            raise KeysUnavailable from error

    def judge(self, claims: dict[str, Any], client: Client) -> tuple[Any, AccessToken]:
        session = sessions.accept(claims, client, confirm=self.confirms)
        return session.user, AccessToken.from_claims(claims, session)

    def get_raw_token(self, header: str) -> str | None:  # type: ignore[override]
        scheme, _, token = header.partition(" ")
        # The scheme is compared without regard to case (RFC 9110, section 11.1).
        if scheme.lower() not in [known.lower() for known in conf.auth_header_types]:
            return None
        return token.strip()

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class LogoutAuthentication(JWTAuthentication):
    """The guard of a request that is refused unless the refresh token fits as well: until then it uses nothing."""

    confirms = False


class StatelessJWTAuthentication(JWTAuthentication):
    """Let in whoever holds an unexpired access token, without a look into the database.

    A session that has ended is let in until its access token expires. `request.user` is a ClaimsUser.
    """

    def judge(self, claims: dict[str, Any], client: Client) -> tuple[Any, AccessToken]:
        token = AccessToken.from_claims(claims)
        return ClaimsUser(token), token


class ClaimsUser(TokenUser):
    """Who the claims say that the user is; there is no row behind it.

    A superuser has every permission, as in Django. The claims name nobody else's, so nobody else has any.
    """

    @property
    def id(self) -> str:
        return str(self.token["sub"])

    @property
    def groups(self) -> list[str]:  # type: ignore[override]
        """The names of the groups."""
        return list(self.token["groups"])

    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        return bool(self.is_superuser)

    def has_perms(self, perm_list: list[str], obj: object | None = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, module: str) -> bool:
        return bool(self.is_superuser)


@dataclass(frozen=True)
class Service:
    """A service that may introspect tokens, known by its credentials."""

    name: str
    is_authenticated = True


class ServiceAuthentication(BasicAuthentication):
    """HTTP Basic with one of the credentials in TOKENS_INTROSPECTION_CREDENTIALS."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[Service, None]:
        # OAuth software encodes both as a form does (RFC 6749, section 2.3.1), everybody else neither.
        for name, given in ((userid, password), (unquote_plus(userid), unquote_plus(password))):
            # An unknown name costs the same comparison, with a secret that nobody has.
            if constant_time_compare(given, conf.introspection_credentials.get(name, token_urlsafe())):
                return Service(name), None
        raise exceptions.AuthenticationFailed(_("The credentials are wrong."), "invalid_credentials")
