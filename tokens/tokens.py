"""The token classes, with the interface of SimpleJWT's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self
from uuid import uuid4

from django.utils.module_loading import import_string
from rest_framework_simplejwt import tokens as simplejwt

from . import exceptions, models, times
from .conf import conf
from .domain import legacy, sessions
from .domain.client import UNKNOWN, Client
from .jose import jwt
from .jose.jwt import RESERVED
from .models import Reason, Session, User

AuthUser: Any = simplejwt.AuthUser
BlacklistMixin = simplejwt.BlacklistMixin
TokenUser = models.TokenUser
TokenError = exceptions.TokenError
ExpiredTokenError = exceptions.ExpiredTokenError
TokenBackendError = exceptions.TokenBackendError
TokenBackendExpiredToken = exceptions.TokenBackendExpiredToken


class Lifetime:
    """The lifetime of a kind of token, read from the setting at each use, on the class or on a token."""

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __get__(self, token: Any, kind: type[Any]) -> timedelta:
        lifetime: timedelta = getattr(conf, self.setting)
        return lifetime


class Token(simplejwt.Token):
    """A JWT of a session.

    A token that is made from text is verified: genuine, unexpired, and accepted by its session (one SELECT).

    Raises TokenExpired, TokenNotValid or TokenRevoked, all of them SimpleJWT's TokenError.
    """

    backend: ClassVar[jwt.Backend | None] = None

    def __init__(self, token: Any = None, verify: bool = True) -> None:
        backend = self._backend_for(token)
        if token is None:
            raise TypeError(
                "Tokens belong to a session. Use RefreshToken.for_user(user) or AccessToken.for_user(user)."
            )
        self.token, self.current_time, self.is_verified = token, times.now(), verify
        self.payload = _claims(backend, token) if verify else backend.decode(token, verify=False)
        if verify:
            self.verify()

    @classmethod
    def claims(cls, token: Any) -> dict[str, Any]:
        """Return the claims of a token that is genuine, of this kind and unexpired. The session is not read.

        Raises TokenExpired or TokenNotValid.
        """
        return _claims(cls._backend_for(token), token)

    @classmethod
    def from_claims(cls, claims: dict[str, Any], session: Session | None = None) -> Self:
        """Return the token with those claims, which the caller has verified."""
        token = cls.__new__(cls)
        token.token, token.current_time, token.payload, token.is_verified = None, times.now(), claims, True
        if session is not None:
            token.session = session
        return token

    @classmethod
    def for_user(cls, user: Any) -> Self:  # noqa: ARG003
        return cls()  # which raises the reason

    def verify(self) -> None:
        self.session = sessions.introspect(self.payload)

    @cached_property
    def session(self) -> Session:
        """The session of the token, as it was at the first access."""
        return sessions.introspect(self.payload)

    @property
    def expires_in(self) -> int:
        """The token's lifetime from its issue on, in seconds."""
        return int(self.payload["exp"] - self.payload["iat"])

    @property
    def token_backend(self) -> jwt.Backend:
        return self.get_token_backend()

    def get_token_backend(self) -> jwt.Backend:
        return self._backend_for(self.token)

    @classmethod
    def _backend_for(cls, _token: Any) -> jwt.Backend:
        if cls.backend is None:
            raise exceptions.NotSupported(
                f"{cls.__name__} is no kind of token that sessions have: those are AccessToken and RefreshToken. "
                "For a token of another use take django.core.signing."
            )
        return cls.backend


class AccessToken(Token, simplejwt.AccessToken):
    backend = jwt.access
    lifetime = Lifetime("access_token_lifetime")

    @classmethod
    def of(cls, session: Session) -> Self:
        """Issue an access token (RFC 9068) for the session as it is now. Each refresh reads the user again."""
        user, now = session.user, times.now()
        claims = {**_named(session), **session.custom_claims}
        if conf.access_claims:
            # The session keeps what was true at the login; the function reads the user as they are now.
            current = import_string(conf.access_claims)(session)
            claims |= {name: value for name, value in current.items() if name != conf.user_id_claim}
        return cls.from_claims(
            {
                **claims,
                "iss": conf.issuer,
                "aud": conf.audience,
                "client_id": conf.issuer,  # RFC 9068 requires one, and this server is its own client
                "sub": str(session.user_id),
                "sid": str(session.pk),
                "jti": uuid4().hex,
                "iat": _epoch(now),
                "exp": _epoch(min(now + cls.lifetime, session.ends_at())),
                "auth_time": _epoch(session.authenticated_at),
                "amr": session.amr.split(),
                "generation": session.generation,
                "token_type": cls.token_type,
                "username": str(user.get_username()),
                "is_staff": bool(getattr(user, "is_staff", False)),
                "is_superuser": bool(getattr(user, "is_superuser", False)),
                "groups": sorted(session.groups or ()),
                **({"cnf": {"jkt": session.jkt}} if session.jkt else {}),
            },
            session,
        )

    @classmethod
    def for_user(cls, user: Any, *, jkt: str = "") -> Self:
        """Start a session for the user and issue its first access token, bound to the key of the thumbprint if given.

        Raises ProofRequired without one if TOKENS_DPOP is "required".
        """
        return cls.of(_start(user, jkt))

    def renew(self) -> Self:
        """Issue a new access token for the session as it is now.

        It keeps this token's generation. With the newest, it would count as a use of a refresh whose answer may have
        been lost, and the retry of that refresh would then look like reuse.
        """
        token = self.of(self.session)
        token["generation"] = self["generation"]
        # Only a refresh makes the session last longer.
        token["exp"] = min(token["exp"], _epoch(self.session.expires_at))
        return token

    @property
    def authenticated_at(self) -> datetime:
        """When the user had last given the password, as of the issue of this token.

        So a copy of an older token is no younger when the owner renews the sign-in.
        """
        return datetime.fromtimestamp(self["auth_time"], UTC)


class RefreshToken(Token, simplejwt.RefreshToken):
    """The refresh token of a session's current generation, derived from its row.

    The project can set claims on the token that `for_user` returns, until it is first written out. The row keeps them
    for all tokens of the session.
    """

    backend = jwt.refresh
    lifetime = Lifetime("refresh_token_lifetime")
    access_token_class = AccessToken

    is_open = False
    """Whether claims can still be set."""

    is_draft = False
    """Whether the session has yet to begin."""

    has_news = False
    """Whether claims were set that are not in the row yet."""

    has_yet_to_begin = False
    """Whether it is one of SimpleJWT's, whose session nobody has begun so far."""

    def __init__(self, token: Any = None, verify: bool = True) -> None:
        if not verify or not legacy.is_refresh(token):
            super().__init__(token, verify)
            return
        former = legacy.present(token)
        self.token, self.current_time, self.payload, self.is_verified = token, times.now(), former.claims, True
        self.has_yet_to_begin = former.is_new
        self.session = former.session if former.is_new else sessions.introspect(former.claims)

    @classmethod
    def claims(cls, token: Any, client: Client | None = None) -> dict[str, Any]:
        """Return the claims of a refresh token that is genuine and unexpired; whether it is still good is not checked.

        A token of SimpleJWT's counts as generation 0 of its session. With a client, that session begins. Raises
        TokenExpired or TokenNotValid; for one of SimpleJWT's also TokenRevoked or NoActiveAccount.
        """
        return legacy.present(token, client).claims if legacy.is_refresh(token) else super().claims(token)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "lifetime" in vars(cls):
            raise exceptions.NotSupported(
                "A refresh token is good for SIMPLE_JWT['REFRESH_TOKEN_LIFETIME'] at the most, whatever its class; "
                "shorter sessions are those that are not to be remembered."
            )

    @classmethod
    def of(cls, session: Session) -> Self:
        """Issue the current refresh token. It has the same bytes until the session is rotated."""
        claims = {
            **_named(session),
            **session.custom_claims,
            "iss": conf.issuer,
            "sub": str(session.user_id),
            "sid": str(session.pk),
            "jti": session.jti(session.generation),
            "iat": _epoch(session.rotated_at),
            "exp": _epoch(session.expires_at),
            "generation": session.generation,
            "token_type": cls.token_type,
        }
        return cls.from_claims(MappingProxyType(claims), session)  # type: ignore[arg-type]

    @classmethod
    def for_user(cls, user: Any, *, jkt: str = "") -> Self:
        """Start a session for the user and issue its first refresh token, bound to the key of the thumbprint if given.

        During a login, this is the token of the session that the login begins, bound to the login's key. Raises
        ProofRequired without one if TOKENS_DPOP is "required".
        """
        login = _login.get()
        if login is None:
            token = cls.of(_start(user, jkt))
        elif login.drafts_for == user:
            now = times.now()
            token = cls.of(Session(user=user, created_at=now, rotated_at=now, expires_at=now + cls.lifetime))
            token.is_draft = True
        elif login.session is not None and login.session.user == user:
            token = cls.of(login.session)
        else:
            login.session = _start(user, jkt or login.key(), login.client)
            token = cls.of(login.session)
        token.is_open = token.session.generation == 0
        return token

    @property
    def access_token(self) -> AccessToken:
        """Issue an access token of this token's generation: one of the newest would count as a use of the rotation."""
        self._keep()
        token = self.access_token_class.of(self.session)
        token["generation"] = self["generation"]
        return token

    def blacklist(self) -> tuple[Session, bool]:  # type: ignore[override]
        """Revoke the session; return it, and whether this call revoked it."""
        self._begin()
        return self.session, sessions.revoke(self.session, Reason.LOGOUT)

    def check_blacklist(self) -> None:
        """Raise TokenNotValid if a refresh would treat this token as reused, TokenRevoked if the session has ended."""
        sessions.introspect(self.payload)

    def __str__(self) -> str:
        self._keep()
        self.is_open = False
        return super().__str__()

    def __setitem__(self, key: str, value: Any) -> None:
        self._change(key, {**self.session.custom_claims, key: value})

    def __delitem__(self, key: str) -> None:
        claims = self.session.custom_claims
        if key not in RESERVED:
            del claims[key]
        self._change(key, claims)

    def set_jti(self) -> NoReturn:
        self._refuse("jti")

    def set_exp(
        self, claim: str = "exp", from_time: datetime | None = None, lifetime: timedelta | None = None
    ) -> NoReturn:
        self._refuse(claim)

    def set_iat(self, claim: str = "iat", at_time: datetime | None = None) -> NoReturn:
        self._refuse(claim)

    def _refuse(self, claim: str) -> NoReturn:
        raise ValueError(
            f"The claim {claim} can't be set: it is derived from the session. To change lifetimes, set "
            "REFRESH_TOKEN_LIFETIME and TOKENS_SESSION_LIFETIME."
        )

    def _change(self, key: str, claims: dict[str, Any]) -> None:
        if key in RESERVED:
            self._refuse(key)
        if not self.is_open:
            raise ValueError(
                f"The claim {key} can't be set anymore: a refresh token can't change once it has been encoded. "
                "Set the claim in get_token, or on the token that for_user returns."
            )
        text = jwt.encode_claims(claims) if claims else ""
        self.has_news = self.has_news or text != self.session.claims
        self.session.claims = text
        self.payload = self.of(self.session).payload

    def _keep(self) -> None:
        """Store in the session's row the claims that were set on this token."""
        self._begin()
        if self.is_draft:
            raise TypeError("The session starts when get_token returns. Its tokens can't be encoded before that.")
        if self.has_news:
            sessions.store_claims(self.session)
            self.has_news = False

    def _begin(self) -> None:
        """Begin the session of a token of SimpleJWT's, unless it has begun."""
        if self.has_yet_to_begin:
            former = legacy.present(self.token, UNKNOWN)
            self.session, self.payload, self.has_yet_to_begin = former.session, former.claims, False


class UntypedToken(Token, simplejwt.UntypedToken):
    """A token of either kind."""

    @classmethod
    def _backend_for(cls, _token: Any) -> jwt.Backend:
        return jwt.refresh if jwt.is_refresh(_token) else jwt.access


SLIDING = (
    "There are no sliding tokens. Use TokenObtainPairView and TokenRefreshView: a session goes on while it is used."
)


class SlidingToken(Token, simplejwt.SlidingToken):
    """Not supported: sessions replace tokens that open everything and renew themselves."""

    @classmethod
    def _backend_for(cls, _token: Any) -> NoReturn:
        raise exceptions.NotSupported(SLIDING)


@dataclass
class Login:
    """A login under way: its client, and the session that it began."""

    client: Client = UNKNOWN
    key: Callable[[], str] = str
    """Returns the thumbprint of the key for a session that `for_user` starts; empty for none."""

    session: Session | None = None
    drafts_for: User | None = None
    """The user whose claims are asked for before a session begins."""


_login: ContextVar[Login | None] = ContextVar("latchkey_login", default=None)


@contextmanager
def login_under_way(
    client: Client = UNKNOWN, *, key: Callable[[], str] = str, drafts_for: User | None = None
) -> Iterator[Login]:
    """Let `for_user` start at most one session, however often it is called.

    Serializers of projects often call `get_token` once more than SimpleJWT's.
    """
    login = Login(client, key, drafts_for=drafts_for)
    token = _login.set(login)
    try:
        yield login
    finally:
        _login.reset(token)


def claims_set_by(get_token: Callable[[Any], Any], user: User) -> str:
    """Return the claims that a project's `get_token` sets, as a session stores them. No session begins."""
    with login_under_way(drafts_for=user):
        token = get_token(user)
    if not isinstance(token, RefreshToken):
        raise TypeError(f"get_token must return the result of RefreshToken.for_user, not {type(token).__name__}.")
    return token.session.claims


def _claims(backend: jwt.Backend, token: Any) -> dict[str, Any]:
    try:
        return backend.decode(token)
    except exceptions.TokenBackendExpiredToken as error:
        raise exceptions.TokenExpired from error
    except exceptions.TokenBackendError as error:
        raise exceptions.TokenNotValid from error


def _named(session: Session) -> Mapping[str, str]:
    """Return the claim by which SimpleJWT's clients know the user."""
    if conf.user_id_claim in RESERVED:
        return {}
    return {conf.user_id_claim: str(getattr(session.user, conf.user_id_field))}


def _start(user: User, jkt: str, client: Client = UNKNOWN) -> Session:
    if conf.dpop == "required" and not jkt:
        raise exceptions.ProofRequired
    return sessions.start(user, client, jkt=jkt)


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())
