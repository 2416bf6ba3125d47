"""The settings of this app, read when they are used, so that `override_settings` works.

What SimpleJWT already names keeps its name, in the dictionary `SIMPLE_JWT`: the lifetimes, `ISSUER`, `AUDIENCE`,
`LEEWAY`, `AUTH_HEADER_TYPES`, `AUTH_HEADER_NAME`, `JWK_URL`. Everything else is one flat group, `TOKENS_*`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeVar

from django.conf import settings as django_settings
from django.utils.functional import Promise

T = TypeVar("T")

DEFAULT_LIMITS = {
    "login": (10, 60.0),  # a name's passwords, from one address
    "login_anywhere": (100, 300.0),  # a name's passwords, from all addresses (NIST SP 800-63B, section 3.2.2)
    "password": (10, 60.0),  # the current password of a user who is signed in
    "code": (10, 300.0),  # an account's codes of the second factor
    "mail": (5, 600.0),  # mails with a link to one e-mail address
}

DEFAULT_THROTTLE_RATES = {"login": "600/min", "refresh": "6000/min", "register": "600/hour", "mail": "300/hour"}


class Settings:
    @property
    def access_token_lifetime(self) -> timedelta:
        return self._simple_jwt("ACCESS_TOKEN_LIFETIME", timedelta(minutes=15))

    @property
    def refresh_token_lifetime(self) -> timedelta:
        """The idle end: how long a refresh token is good if nobody uses it."""
        return self._simple_jwt("REFRESH_TOKEN_LIFETIME", timedelta(days=7))

    @property
    def session_lifetime(self) -> timedelta:
        """The absolute end, counted from the login: no rotation leads past it."""
        return self._own("SESSION_LIFETIME", timedelta(days=90))

    @property
    def short_session_lifetime(self) -> timedelta:
        """The same for a session that is not to be remembered. The shorter of the two wins."""
        return self._own("SHORT_SESSION_LIFETIME", timedelta(hours=12))

    @property
    def recent_sign_in(self) -> timedelta:
        """How long ago the password may have been given where RecentSignIn guards."""
        return self._own("RECENT_SIGN_IN", timedelta(minutes=10))

    @property
    def grace_period(self) -> timedelta:
        return self._own("GRACE_PERIOD", timedelta(seconds=10))

    @property
    def late_retry(self) -> bool:
        return self._own("LATE_RETRY", True)

    @property
    def max_sessions_per_user(self) -> int:
        """0 stands for no cap."""
        return self._own("MAX_SESSIONS_PER_USER", 100)

    @property
    def event_lifetime(self) -> timedelta:
        """How long `flushexpiredtokens` keeps the security log."""
        return self._own("EVENT_LIFETIME", timedelta(days=365))

    @property
    def cookie_name(self) -> str:
        return self._own("COOKIE_NAME", "refreshToken")

    @property
    def cookie_path(self) -> str:
        return self._own("COOKIE_PATH", "/auth")

    @property
    def cookie_secure(self) -> bool:
        return self._own("COOKIE_SECURE", not django_settings.DEBUG)

    @property
    def cookie_samesite(self) -> Literal["Strict", "Lax", "None"]:
        """Which requests carry the cookie; "None" is for a front end on another site."""
        return self._own("COOKIE_SAMESITE", "Strict")

    @property
    def trusted_origins(self) -> Sequence[str]:
        """The other sites' origins (`https://app.example`) that may call the cookie endpoints."""
        return self._own("TRUSTED_ORIGINS", [])

    @property
    def signing_keys(self) -> Sequence[str]:
        """Paths of PEM files; the first signs access tokens, all verify. Empty: derived from `SECRET_KEY`."""
        return self._own("SIGNING_KEYS", [])

    @property
    def introspection_credentials(self) -> Mapping[str, str]:
        return self._own("INTROSPECTION_CREDENTIALS", {})

    @property
    def access_claims(self) -> str | None:
        """Dotted path of `f(session) -> dict`, whose claims every access token carries as well."""
        return self._own("ACCESS_CLAIMS", None)

    @property
    def second_factor(self) -> str | None:
        """Dotted path of a module or an object with the functions of `domain.signing_in.SecondFactors`.

        They are asked after a right password. None: the password is enough.
        """
        return self._own("SECOND_FACTOR", None)

    @property
    def login_hint(self) -> str | Promise:
        """A sentence that every refused login is told beside the error."""
        return self._own("LOGIN_HINT", "")

    @property
    def throttling(self) -> bool:
        """Off for load tests only."""
        return self._own("THROTTLING", True)

    @property
    def limits(self) -> Mapping[str, tuple[int, float]]:
        """The limits on guessing by name: how many tries there are at once, and the seconds until each further one."""
        return {**DEFAULT_LIMITS, **self._own("LIMITS", {})}

    @property
    def throttle_rates(self) -> Mapping[str, str]:
        """What one address may ask for, written as DRF's rates."""
        return {**DEFAULT_THROTTLE_RATES, **self._own("THROTTLE_RATES", {})}

    @property
    def issuer(self) -> str:
        issuer: str | None = self._simple_jwt("ISSUER", None)
        return issuer or "latchkey"

    @property
    def audience(self) -> str | Sequence[str]:
        audience: str | Sequence[str] | None = self._simple_jwt("AUDIENCE", None)
        return audience or self.issuer

    @property
    def leeway(self) -> timedelta:
        leeway: timedelta | float = self._simple_jwt("LEEWAY", 0.0)
        return leeway if isinstance(leeway, timedelta) else timedelta(seconds=leeway)

    @property
    def auth_header_types(self) -> Sequence[str]:
        types: str | Sequence[str] = self._simple_jwt("AUTH_HEADER_TYPES", ["Bearer"])
        return (types,) if isinstance(types, str) else types

    @property
    def auth_header_name(self) -> str:
        return self._simple_jwt("AUTH_HEADER_NAME", "HTTP_AUTHORIZATION")

    @property
    def jwk_url(self) -> str | None:
        """Where another server publishes the keys of the access tokens that this one accepts."""
        return self._simple_jwt("JWK_URL", None)

    def _own(self, name: str, default: T) -> T:
        value: T = getattr(django_settings, f"TOKENS_{name}", default)
        return value

    def _simple_jwt(self, name: str, default: T) -> T:
        value: T = getattr(django_settings, "SIMPLE_JWT", {}).get(name, default)
        return value


conf = Settings()
