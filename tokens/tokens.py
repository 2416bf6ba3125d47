"""The two token classes, with the surface of SimpleJWT's."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self
from uuid import uuid4

from django.utils import timezone
from django.utils.module_loading import import_string
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from .conf import conf
from .domain import sessions
from .exceptions import TokenExpired, TokenNotValid
from .jose import jwt
from .models import Reason, Session, User


class Token(simplejwt.Token):
    """A JWT of a session. Made from text, it is genuine, unexpired, and its session would accept it (one SELECT).

    Raises TokenExpired, TokenNotValid or TokenRevoked, all of them SimpleJWT's TokenError.
    """

    backend: ClassVar[jwt.Backend]

    def __init__(self, token: Any = None, verify: bool = True) -> None:
        if token is None:
            raise TypeError(f"A token is issued for a session: use {type(self).__name__}.for_user(user).")
        self.token, self.current_time = token, timezone.now()
        self.payload = self.claims(token) if verify else self.backend.decode(token, verify=False)
        if verify:
            self.verify()

    @classmethod
    def claims(cls, token: Any) -> dict[str, Any]:
        """Return the claims of a token that is genuine, of this kind and unexpired; the session is not looked at.

        Raises TokenExpired or TokenNotValid.
        """
        try:
            return cls.backend.decode(token)
        except TokenBackendExpiredToken as error:
            raise TokenExpired from error
        except TokenBackendError as error:
            raise TokenNotValid from error

    @classmethod
    def from_claims(cls, claims: dict[str, Any], session: Session | None = None) -> Self:
        """Return the token with those claims, which the caller vouches for."""
        token = cls.__new__(cls)
        token.token, token.current_time, token.payload = None, timezone.now(), claims
        if session is not None:
            token.session = session
        return token

    def verify(self) -> None:
        self.session = sessions.look(self.payload)

    @cached_property
    def session(self) -> Session:
        """The session of the token, as it was when it was first asked for."""
        return sessions.look(self.payload)

    @property
    def expires_in(self) -> int:
        """How long the token is good from its issue on, in seconds."""
        return int(self.payload["exp"] - self.payload["iat"])

    def get_token_backend(self) -> jwt.Backend:
        return self.backend


class AccessToken(Token, simplejwt.AccessToken):
    backend = jwt.access

    @classmethod
    def of(cls, session: Session) -> Self:
        """Issue an access token (RFC 9068) for the session as it now is. Who the user is is read at every refresh."""
        user, now = session.user, timezone.now()
        claims = import_string(conf.access_claims)(session) if conf.access_claims else {}
        return cls.from_claims(
            {
                **claims,
                "iss": conf.issuer,
                "aud": conf.audience,
                "client_id": conf.issuer,  # RFC 9068 demands one, and this server is its own client
                "sub": str(session.user_id),
                "sid": str(session.pk),
                "jti": uuid4().hex,
                "iat": _epoch(now),
                "exp": _epoch(min(now + conf.access_token_lifetime, session.ends_at())),
                "auth_time": _epoch(session.authenticated_at),
                "amr": session.amr.split(),
                "generation": session.generation,
                "token_type": cls.token_type,
                "username": user.get_username(),
                "is_staff": bool(getattr(user, "is_staff", False)),
                "is_superuser": bool(getattr(user, "is_superuser", False)),
                "groups": sorted(session.groups or ()),
            },
            session,
        )

    @classmethod
    def for_user(cls, user: User) -> Self:  # type: ignore[override]
        """Start a session for the user and issue its first access token."""
        return cls.of(sessions.start(user))

    def renew(self) -> Self:
        """Issue another one in the place of this, for the session as it now is.

        It is of this one's generation. One of the newest would be a use of a refresh whose answer may have been lost,
        and the retry of that refresh then be taken for reuse.
        """
        token = self.of(self.session)
        token["generation"] = self["generation"]
        # Without a refresh, the session does not last longer.
        token["exp"] = min(token["exp"], _epoch(self.session.expires_at))
        return token

    @property
    def authenticated_at(self) -> datetime:
        """When the user last gave the password: the session knows, or, where it was not read, the claim."""
        session: Session | None = vars(self).get("session")
        return session.authenticated_at if session else datetime.fromtimestamp(self["auth_time"], UTC)

    @property
    def lifetime(self) -> timedelta:  # type: ignore[override]
        return conf.access_token_lifetime


class RefreshToken(Token, simplejwt.RefreshToken):
    """The refresh token of a session's current generation: a function of the row, so its claims can't be set."""

    backend = jwt.refresh
    access_token_class = AccessToken

    @classmethod
    def of(cls, session: Session) -> Self:
        """Issue the current refresh token: the same bytes each time, until the session is rotated."""
        claims = {
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
    def for_user(cls, user: User) -> Self:  # type: ignore[override]
        """Start a session for the user and issue its first refresh token."""
        return cls.of(sessions.start(user))

    @property
    def access_token(self) -> AccessToken:
        """Issue an access token of this one's generation: one of the newest would be a use of what a rotation gave."""
        token = self.access_token_class.of(self.session)
        token["generation"] = self["generation"]
        return token

    def blacklist(self) -> tuple[Session, bool]:  # type: ignore[override]
        """Revoke the session; return it, and whether it was this call that did."""
        return self.session, sessions.revoke(self.session, Reason.LOGOUT)

    def check_blacklist(self) -> None:
        """Raise TokenNotValid if a refresh would take this one for reused, TokenRevoked if the session has ended."""
        sessions.look(self.payload)

    @property
    def lifetime(self) -> timedelta:  # type: ignore[override]
        return conf.refresh_token_lifetime

    def __setitem__(self, key: str, value: Any) -> NoReturn:
        raise TypeError(
            "A refresh token's claims are a function of its session, and can't be set. "
            "Claims for the access tokens come from the function that TOKENS_ACCESS_CLAIMS names."
        )


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())
