"""The guard: authenticates a request by the access token in its header."""

from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil
from secrets import token_urlsafe
from time import monotonic
from typing import Any
from urllib.parse import unquote_plus

from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _
from rest_framework import HTTP_HEADER_ENCODING
from rest_framework import exceptions as drf
from rest_framework.authentication import BasicAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt import authentication as simplejwt

from . import exceptions, models, tokens
from .conf import conf, resolve
from .domain import legacy, limits, sessions
from .domain.sessions import Prove, unproven
from .exceptions import ProofRequired, ReplayStoreUnreachable, TokenNotValid, TokenRefused, TokenRevoked, TooManyTries
from .http import proofs
from .http.following import FeedUnreachable, follower
from .http.refusals import KeysUnavailable, ProofsUnavailable, Refused, challenges
from .http.requests import client_of
from .jose.keys import KeySetUnreachable
from .tokens import AccessToken

AuthUser = tokens.AuthUser
AuthenticationFailed = exceptions.AuthenticationFailed
InvalidToken = exceptions.InvalidToken
Token = tokens.Token
TokenError = exceptions.TokenError
TokenUser = models.TokenUser

BOUND = b"dpop"
"""The scheme of a token that comes with the proof of a key (RFC 9449, section 7.1), in lower case."""


class JWTAuthentication(simplejwt.JWTAuthentication):
    """Authenticate a request by an active session's access token: one SELECT, of the session joined with its user.

    A revocation, a deactivation and a changed password work on the next request. A token that is bound to a key needs
    a proof of it with each request (RFC 9449). `request.auth` is the AccessToken,
    `request.auth.session` its session.
    """

    confirms = True
    """Whether authentication counts as a use of the token; off where the view may still refuse the credentials."""

    reads_groups = False
    """Whether the same SELECT reads the names of the user's groups, for `request.auth.session.groups`."""

    takes_former_tokens = True
    """Whether access tokens of SimpleJWT are accepted too, as TOKENS_LEGACY says."""

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        """Return the user and the token; None if the header holds no token of ours.

        Raises Refused, KeysUnavailable or ProofsUnavailable.
        """
        header = self.get_header(request)
        raw_token = None if header is None else self.get_raw_token(header)
        if raw_token is None:
            return None
        asked = _asked.set(request)
        try:
            token = self._former_token(header, raw_token) or self.get_validated_token(raw_token)
        finally:
            _asked.reset(asked)
        return self.get_user(token), token

    def _former_token(self, header: bytes | None, raw_token: bytes) -> Token | None:
        """Return a token that SimpleJWT has issued, which has no session; None for any other token. Raises Refused."""
        if not self.takes_former_tokens or not legacy.is_access(raw_token) or _scheme(header or b"") == BOUND:
            return None
        try:
            return AccessToken.from_claims(*legacy.accept(raw_token))
        except TokenRefused as refusal:
            raise Refused(refusal) from refusal

    def get_header(self, request: Request) -> bytes | None:  # type: ignore[override]
        header = request.META.get(conf.auth_header_name)
        return header.encode(HTTP_HEADER_ENCODING, "replace") if isinstance(header, str) else header

    def get_raw_token(self, header: bytes) -> bytes | None:
        """Return the token in the header; None if its scheme is not ours. Raises Refused unless it is one token."""
        # The scheme is compared without regard to case (RFC 9110, section 11.1).
        if _scheme(header) not in [BOUND, *(known.lower().encode() for known in conf.auth_header_types)]:
            return None
        token = header.partition(b" ")[2].strip()
        if not token or b" " in token:
            raise Refused(TokenNotValid())
        return token

    def get_validated_token(self, raw_token: bytes | str) -> Token:
        """Return the access token of an active session.

        A token that is bound to a key is refused, except for `authenticate`, which sees the proof. Raises Refused,
        KeysUnavailable or ProofsUnavailable.
        """
        request = _asked.get()
        try:
            claims = AccessToken.claims(raw_token)
            return self.accept(claims, request, self._proof_of(claims, raw_token, request))
        except TokenRefused as refusal:
            raise Refused(refusal) from refusal
        except (KeySetUnreachable, FeedUnreachable) as error:
            raise KeysUnavailable from error
        except ReplayStoreUnreachable as error:
            raise ProofsUnavailable from error

    def accept(self, claims: dict[str, Any], request: Request | None, prove: Prove) -> AccessToken:
        client = client_of(request)
        session = sessions.accept(claims, client, prove, confirm=self.confirms, groups=self.reads_groups)
        return AccessToken.from_claims(claims, session)

    def get_user(self, validated_token: Any) -> Any:
        """Return the user of the token's session. Raises Refused if the token's signature was not verified."""
        try:
            return _genuine(validated_token).session.user
        except TokenRefused as refusal:
            raise Refused(refusal) from refusal

    def _proof_of(self, claims: dict[str, Any], raw_token: bytes | str, request: Request | None) -> Prove:
        if request is None or _scheme(self.get_header(request) or b"") != BOUND:
            return unproven
        if "cnf" not in claims:
            raise TokenNotValid
        return proofs.with_access_token(request, raw_token if isinstance(raw_token, str) else raw_token.decode())

    def authenticate_header(self, request: Request) -> str:
        return challenges()


_asked: ContextVar[Request | None] = ContextVar("latchkey_asked", default=None)
"""The request, for `get_validated_token`: SimpleJWT's signature has no place for it."""


def _scheme(header: bytes) -> bytes:
    return header.partition(b" ")[0].lower()


def _genuine(token: Any) -> Token:
    if not isinstance(token, Token) or not token.is_verified or token["token_type"] != AccessToken.token_type:
        raise TokenNotValid
    if token.token is not None and "cnf" in token:
        raise ProofRequired  # made from text alone, without a proof of the key
    return token


class LogoutAuthentication(JWTAuthentication):
    """The guard of a logout. Authentication is no use of the token: the view may still refuse the refresh token."""

    confirms = False


class StatelessJWTAuthentication(JWTAuthentication):
    """Authenticate a request by an unexpired access token, without reading the database.

    The access token of an ended session is accepted until it expires or, if TOKENS_ENDED_URL names the issuer's feed of
    ended sessions, for a few seconds. `request.user` is a TokenUser, or what SimpleJWT's TOKEN_USER_CLASS names.
    """

    takes_former_tokens = False

    def accept(self, claims: dict[str, Any], request: Request | None, prove: Prove) -> AccessToken:
        if "cnf" in claims:
            prove(claims["cnf"]["jkt"])
        if conf.ended_url and follower(conf.ended_url).has_ended(claims["sid"]):
            raise TokenRevoked
        return AccessToken.from_claims(claims)

    def get_user(self, validated_token: Any) -> Any:
        try:
            token = _genuine(validated_token)
        except TokenRefused as refusal:
            raise Refused(refusal) from refusal
        return (resolve(conf.token_user_class) or TokenUser)(token)


JWTStatelessUserAuthentication = StatelessJWTAuthentication
JWTTokenUserAuthentication = StatelessJWTAuthentication


def default_user_authentication_rule(user: Any) -> bool:
    return bool(user is not None and user.is_active)


def __getattr__(name: str) -> Any:
    match name:
        case "AUTH_HEADER_TYPES":
            return tuple(conf.auth_header_types)
        case "AUTH_HEADER_TYPE_BYTES":
            return {known.encode(HTTP_HEADER_ENCODING) for known in conf.auth_header_types}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


REFUSED: dict[tuple[str, str, str], float] = {}
"""The time (by `monotonic`) until which an address of a service is refused, because it guessed too often.

Each process keeps its own, so right credentials cost no statement, and a right guess doesn't lift the limit.
"""

REFUSED_LENGTH = 1000


@dataclass(frozen=True)
class Service:
    """A service that may introspect tokens, known by its credentials."""

    name: str
    is_authenticated = True


class ServiceAuthentication(BasicAuthentication):
    """HTTP Basic with one of the credentials in TOKENS_INTROSPECTION_CREDENTIALS."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[Service, None]:
        bucket = ("service", userid, limits.network(client_of(request).ip_address))
        if (left := REFUSED.get(bucket, 0) - monotonic()) > 0:
            raise TooManyTries(ceil(left))
        # OAuth software encodes both as a form does (RFC 6749, section 2.3.1); other clients encode neither.
        for name, given in ((userid, password), (unquote_plus(userid), unquote_plus(password))):
            # An unknown name is compared too, with a random secret, so it takes the same time.
            if constant_time_compare(given, conf.introspection_credentials.get(name, token_urlsafe())):
                return Service(name), None
        self._count(bucket)
        raise drf.AuthenticationFailed(_("The credentials are wrong."), "invalid_credentials")

    @staticmethod
    def _count(bucket: tuple[str, str, str]) -> None:
        try:
            limits.spend(*bucket)
        except TooManyTries as error:
            if len(REFUSED) > REFUSED_LENGTH:
                REFUSED.clear()
            REFUSED[bucket] = monotonic() + error.wait
            raise
