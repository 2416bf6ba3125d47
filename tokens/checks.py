"""System checks of the settings. No id is ever reused."""

import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from json import JSONEncoder
from os import PathLike
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import global_settings, settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import get_hashers
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.sessions.backends import cache, cached_db, db, file, signed_cookies
from django.core import checks, mail
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks.security.base import (
    SECRET_KEY_INSECURE_PREFIX,
    SECRET_KEY_MIN_LENGTH,
    SECRET_KEY_MIN_UNIQUE_CHARACTERS,
)
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.urls import URLResolver, get_resolver, get_script_prefix
from django.utils.functional import Promise
from django.utils.module_loading import import_string

from . import serializers
from .conf import conf, resolve
from .domain.legacy import BLACKLIST
from .domain.outages import describe
from .jose import dpop, keys, simplejwt
from .models import Session, TokenUser
from .views import LogoutView, RefreshView

MAX_GRACE_PERIOD = timedelta(seconds=60)
INTROSPECTION_SECRET_MIN_LENGTH = 32
INTROSPECTION_SECRET_GUESSABLE = 16

SECRET_KEY_MIN_COMPRESSED = 40
"""Bytes of a key after compression, if nothing in it repeats. Fifty random digits keep 42 or more."""

DATABASES = ("postgresql", "sqlite")

COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 6265, section 4.1.1)."""

COOKIE_PATH = re.compile(r"/[ -:<-~]*")
"""A path that browsers take as it is (RFC 6265, sections 4.1.1 and 5.2.4)."""

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")
"""An origin as browsers write it (RFC 6454, section 6.2), without the port that the scheme implies."""

SECOND_FACTORS = ("methods", "options", "verify")
"""The functions that TOKENS_SECOND_FACTOR must have."""

PARAMETER = re.compile(r"[<(]")
"""Where a parameter begins in a route, or a group in a regular expression."""

RATE = re.compile(r"[0-9]+/(?:s|sec|second|m|min|minute|h|hour|d|day)")

Messages = Iterator[checks.CheckMessage]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_text_or_none(value: object) -> bool:
    return value is None or _is_text(value)


def _is_sentence(value: object) -> bool:
    return isinstance(value, str | Promise)  # which may be empty, or translated when it is used


def _is_public_url(value: object) -> bool:
    if value == "":
        return True
    try:
        return isinstance(value, str) and dpop.origin_of(value).startswith(("https://", "http://"))
    except ValueError:
        return False


def _is_dpop(value: object) -> bool:
    return value in ("optional", "required", "off")


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_same_site(value: object) -> bool:
    return value in ("Strict", "Lax", "None")


def _is_whole_number(value: object) -> bool:
    return type(value) is int


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_duration(value: object) -> bool:
    return isinstance(value, timedelta)


def _is_duration_or_none(value: object) -> bool:
    return value is None or _is_duration(value)


def _is_leeway(value: object) -> bool:
    return isinstance(value, timedelta) and value >= timedelta()


def _is_path_or_callable(value: object) -> bool:
    return value is None or callable(value) or _is_text(value)


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(map(_is_text, values))


def _are_header_types(values: object) -> bool:
    return _are_texts(values) and bool(values)


def _is_audience(value: object) -> bool:
    return _is_text(value) or _are_texts(value)


def _are_paths(values: object) -> bool:
    return isinstance(values, list | tuple) and all(_is_text(value) or isinstance(value, PathLike) for value in values)


def _are_credentials(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        _is_text(name) and isinstance(secret, str) for name, secret in values.items()
    )


def _are_limits(values: object) -> bool:
    return isinstance(values, Mapping) and all(map(_is_limit, values.values()))


def _is_limit(value: object) -> bool:
    match value:
        case (int(tries), int() | float() as seconds):
            return tries >= 1 and seconds > 0
    return False


def _is_legacy(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, Mapping) and all(name in value and rule(value[name]) for name, rule in LEGACY.items())


def _is_set_of_texts_or_none(value: object) -> bool:
    return value is None or _is_audience(value)


LEGACY: dict[str, Callable[[object], bool]] = {
    "UNTIL": lambda value: isinstance(value, datetime),
    "COOKIES": _are_texts,
    "ISSUER": _is_set_of_texts_or_none,
    "AUDIENCE": _is_set_of_texts_or_none,
    **dict.fromkeys(("ALGORITHM", "USER_ID_CLAIM", "USER_ID_FIELD", "REVOKE_TOKEN_CLAIM"), _is_text),
    "SIGNING_KEY": lambda value: isinstance(value, str | bytes),
    "VERIFYING_KEY": lambda value: isinstance(value, str | bytes),
}
"""What each setting in TOKENS_LEGACY must be."""


def _are_rates(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        rate is None or (isinstance(rate, str) and RATE.fullmatch(rate)) for rate in values.values()
    )


class Rule(NamedTuple):
    """What a setting must be before other checks can look at it."""

    setting: str
    is_met_by: Callable[[object], bool]
    must_be: str


RULES = {
    "access_token_lifetime": Rule("SIMPLE_JWT['ACCESS_TOKEN_LIFETIME']", _is_duration, "a timedelta"),
    "refresh_token_lifetime": Rule("SIMPLE_JWT['REFRESH_TOKEN_LIFETIME']", _is_duration, "a timedelta"),
    "issuer": Rule("SIMPLE_JWT['ISSUER']", _is_text, "a string"),
    "audience": Rule("SIMPLE_JWT['AUDIENCE']", _is_audience, "a string or a list of strings"),
    "leeway": Rule("SIMPLE_JWT['LEEWAY']", _is_leeway, "a number of seconds or a timedelta, 0 or more"),
    "auth_header_types": Rule("SIMPLE_JWT['AUTH_HEADER_TYPES']", _are_header_types, "a list of strings"),
    "auth_header_name": Rule("SIMPLE_JWT['AUTH_HEADER_NAME']", _is_text, "a string"),
    "jwk_url": Rule("SIMPLE_JWT['JWK_URL']", _is_text_or_none, "a URL or None"),
    "rotate_refresh_tokens": Rule("SIMPLE_JWT['ROTATE_REFRESH_TOKENS']", _is_switch, "True or False"),
    "update_last_login": Rule("SIMPLE_JWT['UPDATE_LAST_LOGIN']", _is_switch, "True or False"),
    "user_id_claim": Rule("SIMPLE_JWT['USER_ID_CLAIM']", _is_text, "a string"),
    "user_id_field": Rule("SIMPLE_JWT['USER_ID_FIELD']", _is_text, "a string"),
    **{
        name: Rule(f"SIMPLE_JWT['{name.upper()}']", _is_path_or_callable, f"a {kind}, its dotted path, or None")
        for name, kind in (
            ("user_authentication_rule", "function"),
            ("on_login_success", "function"),
            ("on_login_failed", "function"),
            ("json_encoder", "class"),
            ("token_user_class", "class"),
            ("token_obtain_serializer", "class"),
            ("token_refresh_serializer", "class"),
            ("token_verify_serializer", "class"),
            ("token_blacklist_serializer", "class"),
        )
    },
    "session_lifetime": Rule("TOKENS_SESSION_LIFETIME", _is_duration, "a timedelta"),
    "short_session_lifetime": Rule("TOKENS_SHORT_SESSION_LIFETIME", _is_duration, "a timedelta"),
    "recent_sign_in": Rule("TOKENS_RECENT_SIGN_IN", _is_duration, "a timedelta"),
    "grace_period": Rule("TOKENS_GRACE_PERIOD", _is_duration, "a timedelta"),
    "late_retry": Rule("TOKENS_LATE_RETRY", _is_switch, "True or False"),
    "max_sessions_per_user": Rule("TOKENS_MAX_SESSIONS_PER_USER", _is_whole_number, "a whole number"),
    "event_lifetime": Rule("TOKENS_EVENT_LIFETIME", _is_duration, "a timedelta"),
    "cookie_name": Rule("TOKENS_COOKIE_NAME", _is_text, "a string"),
    "cookie_path": Rule("TOKENS_COOKIE_PATH", _is_text, "a string"),
    "cookie_secure": Rule("TOKENS_COOKIE_SECURE", _is_switch, "True or False"),
    "cookie_samesite": Rule("TOKENS_COOKIE_SAMESITE", _is_same_site, "'Strict', 'Lax' or 'None'"),
    "trusted_proxies": Rule("TOKENS_TRUSTED_PROXIES", _is_count, "a whole number, 0 or more"),
    "trusted_origins": Rule("TOKENS_TRUSTED_ORIGINS", _are_texts, "a list of strings"),
    "public_url": Rule("TOKENS_PUBLIC_URL", _is_public_url, "a URL like https://example.com, or empty"),
    "dpop": Rule("TOKENS_DPOP", _is_dpop, "optional, required or off"),
    "signing_keys": Rule("TOKENS_SIGNING_KEYS", _are_paths, "a list of paths"),
    "introspection_credentials": Rule(
        "TOKENS_INTROSPECTION_CREDENTIALS", _are_credentials, "a dictionary from names to secrets"
    ),
    "ended_url": Rule("TOKENS_ENDED_URL", _is_text_or_none, "a URL or None"),
    "ended_max_age": Rule("TOKENS_ENDED_MAX_AGE", _is_duration_or_none, "a timedelta or None"),
    "access_claims": Rule("TOKENS_ACCESS_CLAIMS", _is_text_or_none, "the dotted path of a function, or None"),
    "second_factor": Rule(
        "TOKENS_SECOND_FACTOR", _is_text_or_none, "the dotted path of a module or an object, or None"
    ),
    "session_exchange": Rule("TOKENS_SESSION_EXCHANGE", _is_text_or_none, "the dotted path of a function, or None"),
    "login_hint": Rule("TOKENS_LOGIN_HINT", _is_sentence, "a string"),
    "legacy": Rule("TOKENS_LEGACY", _is_legacy, "None, or a dictionary of SimpleJWT's settings with UNTIL, a datetime"),
    "throttling": Rule("TOKENS_THROTTLING", _is_switch, "True or False"),
    "limits": Rule("TOKENS_LIMITS", _are_limits, "a dictionary from names to pairs of tries (1 or more) and seconds"),
    "throttle_rates": Rule("TOKENS_THROTTLE_RATES", _are_rates, "a dictionary from names to rates like '60/minute'"),
}
"""By the name that the setting has in `conf`."""

LIFETIMES = (
    "access_token_lifetime",
    "refresh_token_lifetime",
    "session_lifetime",
    "short_session_lifetime",
    "recent_sign_in",
    "event_lifetime",
)


def _fits(*names: str) -> bool:
    """Return whether these settings are what they must be; `check_types` reports those that are not."""
    try:
        return all(RULES[name].is_met_by(getattr(conf, name)) for name in names)
    except (AttributeError, TypeError, ValueError, OverflowError):  # SIMPLE_JWT, or its LEEWAY, is something else
        return False


@checks.register(checks.Tags.security)
def check_secret_keys(**kwargs: Any) -> Messages:
    """Refuse a weak secret: the public key derived from it lets it be guessed offline.

    Tests publish no key. They run with DEBUG off, most of them with the secret that `startproject` wrote.
    """
    if settings.DEBUG or _is_test_run():
        return
    try:
        secret = settings.SECRET_KEY
    except ImproperlyConfigured:  # it is empty
        secret = ""
    if _is_weak(secret):
        yield checks.Error(
            f"SECRET_KEY must have {SECRET_KEY_MIN_LENGTH} random characters or more.",
            hint='python -c "import secrets; print(secrets.token_urlsafe(64))" generates one.',
            id="latchkey.E001",
        )
    for index, former in enumerate(settings.SECRET_KEY_FALLBACKS):
        if _is_weak(former):
            yield checks.Error(
                f"SECRET_KEY_FALLBACKS[{index}] is weak. Anyone who guesses it can sign tokens. Remove it.",
                id="latchkey.E002",
            )


def _is_test_run() -> bool:
    return hasattr(mail, "outbox")  # only Django's test environment sets this


def _is_weak(secret: str | bytes) -> bool:
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    return (
        len(text) < SECRET_KEY_MIN_LENGTH
        or len(set(text)) < SECRET_KEY_MIN_UNIQUE_CHARACTERS
        or len(zlib.compress(text.encode(errors="replace"))) < SECRET_KEY_MIN_COMPRESSED
        or text.startswith(SECRET_KEY_INSECURE_PREFIX)
    )


@checks.register(checks.Tags.security)
def check_cookie_secure(**kwargs: Any) -> Messages:
    if _fits("cookie_secure") and not (conf.cookie_secure or settings.DEBUG):
        yield checks.Warning(
            "TOKENS_COOKIE_SECURE should be True. Otherwise refresh tokens are sent over unencrypted connections.",
            hint="Silence this check only if all clients run on the server's own machine.",
            id="latchkey.W001",
        )


@checks.register(checks.Tags.security)
def check_cookie_name(**kwargs: Any) -> Messages:
    if not _fits("cookie_name", "cookie_path", "cookie_secure"):
        return
    if not COOKIE_NAME.fullmatch(conf.cookie_name):
        yield checks.Error("TOKENS_COOKIE_NAME must consist of letters, digits, - and _.", id="latchkey.E003")
    # Browsers enforce what the prefixes promise, and drop any other cookie.
    name = conf.cookie_name.lower()
    if name.startswith(("__host-", "__secure-")) and not conf.cookie_secure:
        yield checks.Error(
            "The prefix in TOKENS_COOKIE_NAME needs TOKENS_COOKIE_SECURE to be True.", id="latchkey.E004"
        )
    if name.startswith("__host-") and conf.cookie_path != "/":
        yield checks.Error("The prefix in TOKENS_COOKIE_NAME needs TOKENS_COOKIE_PATH to be '/'.", id="latchkey.E004")


@checks.register(checks.Tags.security)
def check_cookie_path(**kwargs: Any) -> Messages:
    if not _fits("cookie_path") or not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        routes = list(_cookie_routes(get_resolver().url_patterns, get_script_prefix()))
    except Exception as error:  # noqa: BLE001 (whatever the project's own modules raise)
        yield checks.Warning(
            f"TOKENS_COOKIE_PATH could not be checked: ROOT_URLCONF can't be read ({error}).", id="latchkey.W011"
        )
        return
    for route in dict.fromkeys(routes):
        # A parameter can have any value, so the cookie's path has to end before the first one.
        fixed = PARAMETER.split(route)[0]
        if not COOKIE_PATH.fullmatch(conf.cookie_path) or not _covers(conf.cookie_path, fixed):
            yield checks.Error(
                f"TOKENS_COOKIE_PATH must cover {route}, or browsers don't send the cookie there.", id="latchkey.E005"
            )


def _cookie_routes(patterns: Iterable[Any], prefix: str) -> Iterator[str]:
    """Yield the routes of the views that read the cookie, wherever the project has included them."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            yield from _cookie_routes(pattern.url_patterns, route)
        elif issubclass(getattr(pattern.callback, "view_class", object), RefreshView | LogoutView):
            yield route


def _covers(path: str, url: str) -> bool:
    """Return whether a cookie of that path is sent to the URL (RFC 6265, section 5.1.4)."""
    return url == path or url.startswith(path if path.endswith("/") else f"{path}/")


@checks.register(checks.Tags.security)
def check_grace_period(**kwargs: Any) -> Messages:
    if _fits("grace_period") and not timedelta() <= conf.grace_period <= MAX_GRACE_PERIOD:
        yield checks.Error("TOKENS_GRACE_PERIOD must be from 0 to 60 seconds.", id="latchkey.E006")


@checks.register(checks.Tags.compatibility)
def check_lifetimes(**kwargs: Any) -> Messages:
    for name in LIFETIMES:
        if _fits(name) and getattr(conf, name) <= timedelta():
            yield checks.Error(f"{RULES[name].setting} must be longer than zero.", id="latchkey.E007")
    if (
        _fits("access_token_lifetime", "refresh_token_lifetime")
        and conf.access_token_lifetime >= conf.refresh_token_lifetime
    ):
        yield checks.Warning(
            "SIMPLE_JWT['ACCESS_TOKEN_LIFETIME'] should be shorter than SIMPLE_JWT['REFRESH_TOKEN_LIFETIME'].",
            id="latchkey.W002",
        )
    if _fits("refresh_token_lifetime", "session_lifetime") and conf.refresh_token_lifetime > conf.session_lifetime:
        yield checks.Warning(
            "SIMPLE_JWT['REFRESH_TOKEN_LIFETIME'] should not exceed TOKENS_SESSION_LIFETIME.", id="latchkey.W002"
        )
    if _fits("short_session_lifetime", "session_lifetime") and conf.short_session_lifetime > conf.session_lifetime:
        yield checks.Warning(
            "TOKENS_SHORT_SESSION_LIFETIME should not exceed TOKENS_SESSION_LIFETIME.", id="latchkey.W002"
        )


@checks.register(checks.Tags.compatibility)
def check_cap(**kwargs: Any) -> Messages:
    if _fits("max_sessions_per_user") and conf.max_sessions_per_user < 0:
        yield checks.Error("TOKENS_MAX_SESSIONS_PER_USER must be 0 (no limit) or more.", id="latchkey.E008")


@checks.register(checks.Tags.security)
def check_signing_keys(**kwargs: Any) -> Messages:
    if _fits("signing_keys") and conf.signing_keys:
        try:
            keys.access_keys()
        except ImproperlyConfigured as error:
            yield checks.Error(str(error), hint="TOKENS_SIGNING_KEYS lists the files.", id="latchkey.E009")
            return
        for path in conf.signing_keys:
            if b"PRIVATE KEY" in Path(path).read_bytes() and stat.S_IMODE(Path(path).stat().st_mode) & stat.S_IROTH:
                yield checks.Warning(
                    f"Every user of this machine can read {path}. The key in it can sign tokens for any user.",
                    hint=f"chmod o-r {path}",
                    id="latchkey.W012",
                )


@checks.register(checks.Tags.security)
def check_jwk_url(**kwargs: Any) -> Messages:
    if _fits("jwk_url") and conf.jwk_url and not (conf.jwk_url.startswith("https://") or settings.DEBUG):
        yield checks.Error(
            "SIMPLE_JWT['JWK_URL'] must start with https://, or an attacker on the network can sign in as any user.",
            id="latchkey.E010",
        )


@checks.register(checks.Tags.security)
def check_ended_url(**kwargs: Any) -> Messages:
    if _fits("ended_url") and conf.ended_url and not (conf.ended_url.startswith("https://") or settings.DEBUG):
        yield checks.Error(
            "TOKENS_ENDED_URL must start with https://, because requests to it carry this service's secret.",
            id="latchkey.E021",
        )


@checks.register(checks.Tags.security)
def check_trusted_origins(**kwargs: Any) -> Messages:
    for origin in conf.trusted_origins if _fits("trusted_origins") else ():
        if not ORIGIN.fullmatch(origin) or DEFAULT_PORT.fullmatch(origin):
            yield checks.Error(
                f"TOKENS_TRUSTED_ORIGINS must hold origins as browsers write them, like https://app.example; not "
                f"{origin!r}.",
                id="latchkey.E011",
            )


@checks.register(checks.Tags.security)
def check_introspection_credentials(**kwargs: Any) -> Messages:
    credentials = conf.introspection_credentials if _fits("introspection_credentials") else {}
    for name, secret in credentials.items():
        if not secret:
            yield checks.Error(f"TOKENS_INTROSPECTION_CREDENTIALS must have a secret for {name!r}.", id="latchkey.E012")
        elif len(secret) < INTROSPECTION_SECRET_GUESSABLE and not settings.DEBUG:
            yield checks.Error(
                f"TOKENS_INTROSPECTION_CREDENTIALS must have a secret for {name!r} that can't be guessed: "
                f"{INTROSPECTION_SECRET_MIN_LENGTH} random characters or more.",
                id="latchkey.E012",
            )
        elif len(secret) < INTROSPECTION_SECRET_MIN_LENGTH and not settings.DEBUG:
            yield checks.Warning(
                f"TOKENS_INTROSPECTION_CREDENTIALS should have a secret of {INTROSPECTION_SECRET_MIN_LENGTH} random "
                f"characters or more for {name!r}.",
                id="latchkey.W003",
            )


@checks.register(checks.Tags.security)
def check_throttling(**kwargs: Any) -> Messages:
    if _fits("throttling") and not (conf.throttling or settings.DEBUG):
        yield checks.Warning(
            "TOKENS_THROTTLING should be True. Otherwise passwords can be guessed without limit.", id="latchkey.W004"
        )


@checks.register(checks.Tags.compatibility)
def check_hooks(**kwargs: Any) -> Messages:
    for name in ("access_claims", "session_exchange"):
        path = getattr(conf, name) if _fits(name) else None
        if path is not None and not _is_function(path):
            yield checks.Error(
                f"{RULES[name].setting} must name a function that can be imported, not {path!r}.", id="latchkey.E013"
            )
    path = conf.second_factor if _fits("second_factor") else None
    if path is not None and not _has_functions(path, SECOND_FACTORS):
        yield checks.Error(
            f"TOKENS_SECOND_FACTOR must name a module or an object with {', '.join(SECOND_FACTORS)}, not {path!r}.",
            id="latchkey.E013",
        )


def _is_function(path: str) -> bool:
    try:
        return callable(import_string(path))
    except (ImportError, TypeError, ValueError):
        return False


def _has_functions(path: str, names: Iterable[str]) -> bool:
    try:
        named = resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return False
    return all(callable(getattr(named, name, None)) for name in names)


@checks.register(checks.Tags.compatibility)
def check_types(**kwargs: Any) -> Messages:
    for name, rule in RULES.items():
        if not _fits(name):
            yield checks.Error(f"{rule.setting} must be {rule.must_be}.", id="latchkey.E015")


@checks.register(checks.Tags.security)
def check_cookie_samesite(**kwargs: Any) -> Messages:
    if _fits("cookie_samesite", "cookie_secure") and conf.cookie_samesite == "None" and not conf.cookie_secure:
        yield checks.Error(
            "TOKENS_COOKIE_SAMESITE = 'None' needs TOKENS_COOKIE_SECURE to be True, or browsers drop the cookie.",
            id="latchkey.E016",
        )


@checks.register(checks.Tags.compatibility)
def check_user_model(**kwargs: Any) -> Messages:
    if not issubclass(get_user_model(), AbstractBaseUser):
        yield checks.Error(
            "AUTH_USER_MODEL must be a subclass of AbstractBaseUser: sessions end when its session auth hash changes.",
            id="latchkey.E018",
        )


NO_DATABASE = "django.db.backends.dummy"
"""Django's default without a setting, as in a service that only verifies tokens and stores nothing."""


@checks.register(checks.Tags.compatibility)
def check_databases(**kwargs: Any) -> Messages:
    alias = router.db_for_write(Session)
    vendor = connections[alias].vendor
    if vendor not in DATABASES and connections[alias].settings_dict["ENGINE"] != NO_DATABASE:
        yield checks.Error(
            f"DATABASES[{alias!r}] is {vendor}, but sessions need PostgreSQL or SQLite.",
            hint="A database router can store sessions and users in another database.",
            id="latchkey.E019",
        )
    users = router.db_for_write(get_user_model())
    if users != alias:
        yield checks.Error(
            f"Users are in DATABASES[{users!r}], but must be in {alias!r} with the sessions: one query reads both.",
            hint="Make DATABASE_ROUTERS choose the same database for the app latchkey and for AUTH_USER_MODEL.",
            id="latchkey.E020",
        )


BLACKLIST_APP = "rest_framework_simplejwt.token_blacklist"


@checks.register(checks.Tags.compatibility)
def check_blacklist(**kwargs: Any) -> Messages:
    if apps.is_installed(BLACKLIST_APP) and not getattr(settings, "TOKENS_LEGACY", None):
        yield checks.Warning(
            "INSTALLED_APPS should not list rest_framework_simplejwt.token_blacklist: sessions replace it.",
            hint="Remove it. Or set TOKENS_LEGACY, which needs it and keeps SimpleJWT's users signed in.",
            id="latchkey.W005",
        )


@checks.register(checks.Tags.security)
def check_legacy(**kwargs: Any) -> Messages:
    if not _fits("legacy") or conf.legacy is None:
        return
    for name in conf.legacy.keys() - LEGACY.keys():
        close = get_close_matches(str(name), LEGACY, n=1)
        yield checks.Error(
            f"TOKENS_LEGACY[{name!r}] is not a setting.",
            hint=f"Did you mean {close[0]!r}?" if close else None,
            id="latchkey.E023",
        )
    try:
        simplejwt.key(conf.legacy)
    except ValueError as error:
        yield checks.Error(f"TOKENS_LEGACY can't verify tokens: {error}.", id="latchkey.E024")
    field, secret = conf.legacy["USER_ID_FIELD"], conf.legacy["SIGNING_KEY"]
    if field not in ("pk", *(known.name for known in get_user_model()._meta.get_fields())):
        yield checks.Error(
            f"TOKENS_LEGACY['USER_ID_FIELD'] is not a field of the user model: {field!r}.", id="latchkey.E025"
        )
    # A weak SECRET_KEY is an error already.
    is_shared = conf.legacy["ALGORITHM"].startswith("HS") and secret != settings.SECRET_KEY
    if is_shared and _is_weak(secret) and not (settings.DEBUG or _is_test_run()):
        yield checks.Warning(
            "TOKENS_LEGACY['SIGNING_KEY'] is weak. Anyone who guesses it can sign in as any user.",
            hint="Remove TOKENS_LEGACY as soon as the old tokens have expired.",
            id="latchkey.W014",
        )


@checks.register(checks.Tags.compatibility)
def check_legacy_tables(**kwargs: Any) -> Messages:
    """Refuse the tables of SimpleJWT's blacklist without its app: they keep users from being deleted."""
    if not _fits("legacy") or conf.legacy is None or apps.is_installed(BLACKLIST_APP):
        return
    connection = connections[router.db_for_write(Session)]
    try:
        found = BLACKLIST in connection.introspection.table_names()
    except Exception as error:  # noqa: BLE001 (any error of a backend that can't be reached, or of none)
        yield checks.Warning(
            f"TOKENS_LEGACY was not checked: the list of tables can't be read ({describe(error)}).",
            id="latchkey.W015",
        )
        return
    if found:
        yield checks.Error(
            f"INSTALLED_APPS must list {BLACKLIST_APP} while TOKENS_LEGACY is set and its tables exist.",
            hint="Drop the tables once TOKENS_LEGACY is removed.",
            id="latchkey.E026",
        )


# Settings that a project brings from SimpleJWT

KEYS = (
    "TOKENS_SIGNING_KEYS or SECRET_KEY determines the keys and the algorithm. "
    "To keep old tokens valid, move it to TOKENS_LEGACY."
)
SLIDING = "Sliding tokens are not supported. A session stays active while it is used."
PASSWORD = "Changing the password always ends the user's sessions."

WITHOUT_EFFECT = {
    "ALGORITHM": KEYS,
    "SIGNING_KEY": KEYS,
    "VERIFYING_KEY": KEYS,
    "BLACKLIST_AFTER_ROTATION": "A rotated refresh token is always refused.",
    "AUTH_TOKEN_CLASSES": "Only the access tokens of a session are accepted.",
    "TOKEN_TYPE_CLAIM": "The claim is called token_type.",
    "JTI_CLAIM": "The claim is called jti.",
    "SLIDING_TOKEN_REFRESH_EXP_CLAIM": SLIDING,
    "SLIDING_TOKEN_LIFETIME": SLIDING,
    "SLIDING_TOKEN_REFRESH_LIFETIME": SLIDING,
    "SLIDING_TOKEN_OBTAIN_SERIALIZER": SLIDING,
    "SLIDING_TOKEN_REFRESH_SERIALIZER": SLIDING,
    "CHECK_REVOKE_TOKEN": PASSWORD,
    "REVOKE_TOKEN_CLAIM": PASSWORD,
    "CHECK_USER_IS_ACTIVE": "Inactive users are always refused.",
}
"""Settings of SimpleJWT that have no effect here, and why."""

SERIALIZERS = {
    "token_obtain_serializer": serializers.CredentialsSerializer,
    "token_refresh_serializer": serializers.TokenRefreshSerializer,
    "token_verify_serializer": serializers.TokenVerifySerializer,
    "token_blacklist_serializer": serializers.TokenBlacklistSerializer,
}


@checks.register(checks.Tags.compatibility)
def check_simple_jwt_names(**kwargs: Any) -> Messages:
    """Report settings without effect: a project may rely on them, so they must not be ignored silently."""
    given = getattr(settings, "SIMPLE_JWT", {})
    known = [rule.setting.split("'")[1] for rule in RULES.values() if rule.setting.startswith("SIMPLE_JWT")]
    for name in given if isinstance(given, Mapping) else ():
        if name in WITHOUT_EFFECT:
            yield checks.Warning(
                f"SIMPLE_JWT[{name!r}] has no effect. Remove it.", hint=WITHOUT_EFFECT[name], id="latchkey.W006"
            )
        # Projects that keep tokens in cookies put their own names here. No setting of SimpleJWT's is about cookies.
        elif name not in known and "COOKIE" not in str(name):
            close = get_close_matches(str(name), [*known, *WITHOUT_EFFECT], n=1)
            yield checks.Warning(
                f"SIMPLE_JWT[{name!r}] is not a setting.",
                hint=f"Did you mean {close[0]!r}?" if close else None,
                id="latchkey.W007",
            )


@checks.register(checks.Tags.compatibility)
def check_own_names(**kwargs: Any) -> Messages:
    """Report a misspelt setting of ours. Another app of the project may have names of the same prefix."""
    known = [rule.setting for rule in RULES.values()]
    for name in dir(settings):
        if name.startswith("TOKENS_") and name not in known and (close := get_close_matches(name, known, 1, 0.85)):
            yield checks.Warning(f"{name} is not a setting.", hint=f"Did you mean {close[0]!r}?", id="latchkey.W017")


@checks.register(checks.Tags.security)
def check_rotation(**kwargs: Any) -> Messages:
    if _fits("rotate_refresh_tokens") and not conf.rotate_refresh_tokens:
        yield checks.Warning(
            "SIMPLE_JWT['ROTATE_REFRESH_TOKENS'] should be True: in the body transport, a stolen refresh token works "
            "alongside its owner's, unnoticed, until it expires.",
            hint="Remove it once every client stores the refresh token from each refresh response.",
            id="latchkey.W008",
        )


@checks.register(checks.Tags.compatibility)
def check_authentication_rule(**kwargs: Any) -> Messages:
    """Report a rule that accepts inactive users: they could sign in with SimpleJWT, and can't here."""
    rule = _resolved("user_authentication_rule", default=None) if _fits("user_authentication_rule") else None
    if callable(rule) and _lets_inactive_users_in(rule):
        yield checks.Warning(
            "SIMPLE_JWT['USER_AUTHENTICATION_RULE'] accepts inactive users, but they are always refused.",
            hint="Sessions end when their user is deactivated. Have the rule return False for inactive users.",
            id="latchkey.W016",
        )


def _lets_inactive_users_in(rule: Callable[[Any], Any]) -> bool:
    try:
        return bool(rule(get_user_model()(is_active=False)))
    except Exception:  # noqa: BLE001 (the model has no such field, or the rule needs a user who is in the database)
        return False


@checks.register(checks.Tags.compatibility)
def check_simple_jwt_paths(**kwargs: Any) -> Messages:
    """Refuse a path that would fail at a login, and a rule that would be ignored."""
    for name in ("user_authentication_rule", "on_login_success", "on_login_failed"):
        if _fits(name) and not callable(_resolved(name, default=callable)):
            yield _unusable(name, "a function that can be imported")
    for name, base in {"json_encoder": JSONEncoder, "token_user_class": TokenUser, **SERIALIZERS}.items():
        named = _resolved(name, default=base) if _fits(name) else base
        if not (isinstance(named, type) and issubclass(named, base)):
            yield _unusable(name, f"a subclass of {base.__module__}.{base.__name__}")


def _resolved(name: str, default: Any) -> Any:
    """Return what the setting names; its default if it is not set, None if that can't be imported."""
    try:
        return resolve(getattr(conf, name)) or default
    except (ImportError, TypeError, ValueError):
        return None


def _unusable(name: str, must_be: str) -> checks.CheckMessage:
    return checks.Error(f"{RULES[name].setting} must name {must_be}, not {getattr(conf, name)!r}.", id="latchkey.E017")


@checks.register(checks.Tags.security)
def check_allowed_hosts(**kwargs: Any) -> Messages:
    """Warn where a proof for any host would be accepted: its `htu` is compared with the Host header."""
    if _fits("dpop") and conf.dpop != "off" and "*" in settings.ALLOWED_HOSTS:
        yield checks.Warning(
            "ALLOWED_HOSTS should list hosts, not '*'. Otherwise key proofs made for another server are accepted.",
            hint="Or set TOKENS_DPOP to 'off' if no client sends key proofs.",
            id="latchkey.W009",
        )


@checks.register(checks.Tags.security)
def check_hashers(**kwargs: Any) -> Messages:
    """Report hashers whose package is missing: their hashes are refused. Django's default list is not checked."""
    for hasher in get_hashers() if settings.PASSWORD_HASHERS != global_settings.PASSWORD_HASHERS else ():
        library = getattr(hasher, "library", None)  # a name, or one to show and one to import
        library = library[-1] if isinstance(library, list | tuple) else library
        if library and find_spec(library) is None:
            yield checks.Warning(
                f"PASSWORD_HASHERS lists {type(hasher).__name__}, but the package {library} is not installed.",
                id="latchkey.W010",
            )


CACHED = (cache.SessionStore, cached_db.SessionStore)
LASTING = (db.SessionStore, cache.SessionStore, file.SessionStore)
"""The engines with which a session that ends on one server ends on all of them, if they share the store."""


@checks.register(checks.Tags.security)
def check_session_exchange(**kwargs: Any) -> Messages:
    """Refuse a store in which an exchanged Django session may live on: it could be exchanged again."""
    if not _fits("session_exchange") or not conf.session_exchange:
        return
    if not any(_is_middleware(path, AuthenticationMiddleware) for path in settings.MIDDLEWARE):
        yield checks.Error(
            "TOKENS_SESSION_EXCHANGE needs SessionMiddleware and AuthenticationMiddleware in MIDDLEWARE.",
            id="latchkey.E022",
        )
    kept = _where_sessions_are_kept()
    if kept:
        yield checks.Error(
            f"SESSION_ENGINE keeps sessions in {kept}: TOKENS_SESSION_EXCHANGE can't end them.",
            hint="Use django.contrib.sessions.backends.db, or a cache that all servers share.",
            id="latchkey.E022",
        )
    elif kept is None:
        yield checks.Warning(
            f"SESSION_ENGINE = {settings.SESSION_ENGINE!r} could not be checked. If a session doesn't end on all "
            "servers at once, TOKENS_SESSION_EXCHANGE can exchange it more than once.",
            id="latchkey.W013",
        )


def _where_sessions_are_kept() -> str | None:
    """Return where Django's sessions are kept, if they can't be ended there; empty if they can, None if unknown."""
    try:
        store: Any = import_module(settings.SESSION_ENGINE).SessionStore
        cached_in = caches[settings.SESSION_CACHE_ALIAS] if issubclass(store, CACHED) else None
    except (ImportError, AttributeError, InvalidCacheBackendError):
        return None
    if issubclass(store, signed_cookies.SessionStore):
        return "cookies, which can't be revoked"
    if isinstance(cached_in, LocMemCache | DummyCache):
        return "a cache that processes don't share"
    return "" if issubclass(store, LASTING) else None


def _is_middleware(path: str, kind: type) -> bool:
    try:
        named = import_string(path)
    except ImportError:  # Django reports that itself
        return False
    return isinstance(named, type) and issubclass(named, kind)
