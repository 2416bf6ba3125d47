"""The settings of this app, read at their first use and after each change, so that `override_settings` works.

What SimpleJWT already names keeps its name, in the dictionary `SIMPLE_JWT`. Everything else is one flat group,
`TOKENS_*`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.functional import Promise
from django.utils.module_loading import import_string

T = TypeVar("T")

SIMPLE_JWT = "rest_framework_simplejwt."

DEFAULT_LIMITS = {
    "login": (10, 60.0),  # a name's passwords, from one address
    "login_anywhere": (100, 300.0),  # a name's passwords, from all addresses (NIST SP 800-63B, section 3.2.2)
    "password": (10, 60.0),  # the current password of a user who is signed in, from one address
    "password_anywhere": (100, 300.0),  # the same, from all addresses
    "code": (10, 300.0),  # an account's codes of the second factor, from one address
    "code_anywhere": (100, 300.0),  # the same, from all addresses
    "code_notice": (1, 3600.0),  # mails to one owner that codes are guessed
    "service": (10, 60.0),  # a service's credentials, from one address
    "account": (20, 180.0),  # changes of a name or an address, which show whether it is taken
    "mail": (5, 600.0),  # mails with a link to one email address
}

DEFAULT_LEGACY = {
    "ALGORITHM": "HS256",
    "VERIFYING_KEY": "",
    "ISSUER": None,
    "AUDIENCE": None,
    "USER_ID_CLAIM": "user_id",
    "USER_ID_FIELD": "id",
    "REVOKE_TOKEN_CLAIM": "hash_password",
    "COOKIES": (),
}
"""SimpleJWT's defaults, except SIGNING_KEY, which is Django's SECRET_KEY."""

DEFAULT_THROTTLE_RATES = {"login": "600/min", "refresh": "6000/min", "register": "600/hour", "mail": "300/hour"}


class Settings:
    @property
    def access_token_lifetime(self) -> timedelta:
        return self._simple_jwt("ACCESS_TOKEN_LIFETIME", timedelta(minutes=15))

    @property
    def refresh_token_lifetime(self) -> timedelta:
        """The idle timeout: how long an unused refresh token stays valid."""
        return self._simple_jwt("REFRESH_TOKEN_LIFETIME", timedelta(days=7))

    @property
    def session_lifetime(self) -> timedelta:
        """The absolute timeout, counted from the login. No rotation extends it."""
        return self._own("SESSION_LIFETIME", timedelta(days=90))

    @property
    def short_session_lifetime(self) -> timedelta:
        """The same for a session that is not to be remembered. The shorter of the two wins."""
        return self._own("SHORT_SESSION_LIFETIME", timedelta(hours=12))

    @property
    def recent_sign_in(self) -> timedelta:
        """How recent a sign-in must be for RecentSignIn."""
        return self._own("RECENT_SIGN_IN", timedelta(minutes=10))

    @property
    def grace_period(self) -> timedelta:
        return self._own("GRACE_PERIOD", timedelta(seconds=10))

    @property
    def late_retry(self) -> bool:
        return self._own("LATE_RETRY", True)

    @property
    def max_sessions_per_user(self) -> int:
        """0 means no cap."""
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
    def trusted_proxies(self) -> int:
        """How many proxies in front are trusted for X-Forwarded-For. 0: the client's address is REMOTE_ADDR."""
        return self._own("TRUSTED_PROXIES", 0)

    @property
    def trusted_origins(self) -> Sequence[str]:
        """The other sites' origins (`https://app.example`) that may call the cookie endpoints."""
        return self._own("TRUSTED_ORIGINS", [])

    @property
    def public_url(self) -> str:
        """How this server's URLs start, where the Host header doesn't show it, as behind a proxy."""
        return self._own("PUBLIC_URL", "")

    @property
    def dpop(self) -> str:
        """Whether new sessions are bound to their client's key: optional, required or off."""
        return self._own("DPOP", "optional")

    @property
    def signing_keys(self) -> Sequence[str]:
        """Paths of PEM files; the first signs access tokens, all verify. Empty: derived from `SECRET_KEY`."""
        return self._own("SIGNING_KEYS", [])

    @property
    def introspection_credentials(self) -> Mapping[str, str]:
        return self._own("INTROSPECTION_CREDENTIALS", {})

    @property
    def ended_url(self) -> str | None:
        """The URL of the issuing server's feed of ended sessions, with this service's credentials in it."""
        return self._own("ENDED_URL", None)

    @property
    def ended_max_age(self) -> timedelta | None:
        """How long the stateless guard goes on if that feed can't be reached. None: forever."""
        return self._own("ENDED_MAX_AGE", timedelta(seconds=10))

    @property
    def access_claims(self) -> str | None:
        """Dotted path of `f(session) -> dict`; every access token has these claims too."""
        return self._own("ACCESS_CLAIMS", None)

    @property
    def second_factor(self) -> str | None:
        """Dotted path of a module or an object with the functions of `domain.signing_in.SecondFactors`.

        They are asked after a right password. None: the password is enough.
        """
        return self._own("SECOND_FACTOR", None)

    @property
    def session_exchange(self) -> str | None:
        """Dotted path of `f(request) -> Sequence[str] | None`, which says how the holder of a Django session signed in.

        In the words of RFC 8176; None refuses to exchange the session for one of ours. Unset: none is exchanged.
        """
        return self._own("SESSION_EXCHANGE", None)

    @property
    def login_hint(self) -> str | Promise:
        """A sentence that is added to the message of every refused login."""
        return self._own("LOGIN_HINT", "")

    @property
    def legacy(self) -> Mapping[str, Any] | None:
        """How SimpleJWT signed the tokens that are still accepted, in the names of its settings; None: none are.

        Also UNTIL, the moment before which they were issued, and COOKIES, the names of the cookies that they are in.
        """
        own: Mapping[str, Any] | None = self._own("LEGACY", None)
        return None if own is None else {**DEFAULT_LEGACY, "SIGNING_KEY": django_settings.SECRET_KEY, **own}

    @property
    def throttling(self) -> bool:
        """Turn it off for load tests only."""
        return self._own("THROTTLING", True)

    @property
    def limits(self) -> Mapping[str, tuple[int, float]]:
        """The limits on guessing, by name: the number of tries at once, and the seconds until each further one."""
        return {**DEFAULT_LIMITS, **self._own("LIMITS", {})}

    @property
    def throttle_rates(self) -> Mapping[str, str]:
        """The most requests from one address, written as DRF's rates."""
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

    @property
    def rotate_refresh_tokens(self) -> bool:
        """Whether the body transport exchanges refresh tokens; by cookie they always are."""
        return self._simple_jwt("ROTATE_REFRESH_TOKENS", True)

    @property
    def update_last_login(self) -> bool:
        return self._simple_jwt("UPDATE_LAST_LOGIN", False)

    @property
    def user_id_claim(self) -> str:
        """The claim that names the user beside `sub`."""
        return self._simple_jwt("USER_ID_CLAIM", "sub")

    @property
    def user_id_field(self) -> str:
        """The user model's field that the claim's value comes from."""
        return self._simple_jwt("USER_ID_FIELD", "pk")

    @property
    def user_authentication_rule(self) -> Any:
        """A function `f(user) -> bool`, or its dotted path: who may sign in and stay signed in."""
        return _ours(self._simple_jwt("USER_AUTHENTICATION_RULE", None))

    @property
    def on_login_success(self) -> Any:
        """A function `f(user, request)`, or its dotted path, called after a login."""
        return _ours(self._simple_jwt("ON_LOGIN_SUCCESS", None))

    @property
    def on_login_failed(self) -> Any:
        """A function `f(credentials, request)`, or its dotted path, called when a login is refused."""
        return _ours(self._simple_jwt("ON_LOGIN_FAILED", None))

    @property
    def json_encoder(self) -> Any:
        """A subclass of `json.JSONEncoder`, or its dotted path, for the values of the project's own claims."""
        return self._simple_jwt("JSON_ENCODER", None)

    @property
    def token_user_class(self) -> Any:
        """A subclass of `models.TokenUser`, or its dotted path: the stateless guard's class of users."""
        return _ours(self._simple_jwt("TOKEN_USER_CLASS", None))

    # Each a subclass of the serializer that it replaces, or its dotted path.

    @property
    def token_obtain_serializer(self) -> Any:
        return _ours(self._simple_jwt("TOKEN_OBTAIN_SERIALIZER", None))

    @property
    def token_refresh_serializer(self) -> Any:
        return _ours(self._simple_jwt("TOKEN_REFRESH_SERIALIZER", None))

    @property
    def token_verify_serializer(self) -> Any:
        return _ours(self._simple_jwt("TOKEN_VERIFY_SERIALIZER", None))

    @property
    def token_blacklist_serializer(self) -> Any:
        return _ours(self._simple_jwt("TOKEN_BLACKLIST_SERIALIZER", None))

    def _own(self, name: str, default: T) -> T:
        value: T = _read(f"TOKENS_{name}")
        return default if value is UNSET else value

    def _simple_jwt(self, name: str, default: T) -> T:
        given = _read("SIMPLE_JWT")
        value: T = default if given is UNSET else given.get(name, default)
        return value


UNSET: Any = object()

_known: dict[str, Any] = {}
"""Settings read so far: a refresh reads some thirty, and Django is slow to find that one is not set."""


def _read(name: str) -> Any:
    try:
        return _known[name]
    except KeyError:
        value = _known[name] = getattr(django_settings, name, UNSET)
        return value


@receiver(setting_changed)
def _forget(**_: Any) -> None:
    _known.clear()


def _ours(value: Any) -> Any:
    """Return this package's path for SimpleJWT's: many projects have its defaults in their settings."""
    if isinstance(value, str) and value.startswith(SIMPLE_JWT):
        return f"{__package__}.{value.removeprefix(SIMPLE_JWT)}"
    return value


def resolve(value: Any) -> Any:
    """Return the object that a setting names by its dotted path, or holds. SimpleJWT's settings allow both."""
    return import_string(value) if isinstance(value, str) else value


conf = Settings()
