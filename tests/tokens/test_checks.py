import re
from collections import UserDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import global_settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core import mail
from django.core.checks import Error, Tags, Warning, run_checks  # noqa: A004
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import OperationalError, connection, connections
from django.urls import include, path, re_path
from pytest_django import Settings
from rest_framework_simplejwt.settings import api_settings

from tokens import checks
from tokens.conf import Settings as Conf
from tokens.models import Session
from tokens.serializers import TokenRefreshSerializer

STRONG = "42913867501827364509918273645546372819018273645509"


def found() -> list[str | None]:
    """Return the ids of the messages of this app's checks."""
    return [message.id for message in messages()]


def messages() -> list[Any]:
    return [message for message in run_checks() if f"{message.id}".startswith("latchkey.")]


def claims(session: Any) -> dict[str, Any]:
    return {}


def test_test_settings_pass_every_check() -> None:
    assert not messages()


def test_every_setting_has_a_rule() -> None:
    assert checks.RULES.keys() == {name for name in vars(Conf) if isinstance(vars(Conf)[name], property)}


def test_every_rule_names_its_setting() -> None:
    for name, rule in checks.RULES.items():
        assert rule.setting in (f"TOKENS_{name.upper()}", f"SIMPLE_JWT['{name.upper()}']")


RETIRED = {"E": {14}, "W": set[int]()}
"""Ids that no check has any more, and that must not be used again."""


def test_check_ids_are_consecutive_and_unique() -> None:
    source = Path(checks.__file__).read_text()
    for letter, retired in RETIRED.items():
        numbers = {int(number) for number in re.findall(rf'"latchkey\.{letter}(\d+)"', source)}
        assert not numbers & retired
        assert sorted(numbers | retired) == list(range(1, len(numbers | retired) + 1))


def test_error_message_is_a_sentence_and_stops_the_command(settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(seconds=61)
    assert messages() == [Error("TOKENS_GRACE_PERIOD must be from 0 to 60 seconds.", id="latchkey.E006")]
    with pytest.raises(SystemCheckError, match=r"latchkey\.E006"):
        call_command("check")


def test_security_tag_can_be_checked_alone(settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(seconds=61)
    settings.TOKENS_MAX_SESSIONS_PER_USER = -1
    assert [message.id for message in run_checks(tags=[Tags.security])] == ["latchkey.E006"]


# SECRET_KEY


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the sign by which the checks know that tests are running."""
    monkeypatch.delattr(mail, "outbox")


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "secret", ["", STRONG[1:], "abcd" * 20, "abcde" * 10, "0123456789" * 6, f"django-insecure-{STRONG}", b"\xff" * 80]
)
def test_weak_secret_is_an_error(settings: Settings, secret: str | bytes) -> None:
    settings.SECRET_KEY = secret
    assert found() == ["latchkey.E001"]


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("secret", [STRONG, STRONG.encode()])
def test_strong_secret_is_fine(settings: Settings, secret: str | bytes) -> None:
    settings.SECRET_KEY = secret
    assert not found()


@pytest.mark.usefixtures("served")
def test_each_weak_former_secret_is_an_error(settings: Settings) -> None:
    settings.SECRET_KEY_FALLBACKS = ["weak", STRONG, "feeble"]
    sentence = "SECRET_KEY_FALLBACKS[%d] is weak. Anyone who guesses it can sign tokens. Remove it."
    assert messages() == [Error(sentence % index, id="latchkey.E002") for index in (0, 2)]


@pytest.mark.usefixtures("served")
def test_weak_secrets_are_allowed_in_debug(settings: Settings) -> None:
    settings.DEBUG, settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = True, "weak", ["feeble"]
    assert not found()


def test_weak_secrets_are_allowed_in_tests(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "weak", ["feeble"]
    assert not found()


# The cookie


def test_cookie_without_secure_is_a_warning_outside_debug(settings: Settings) -> None:
    settings.TOKENS_COOKIE_SECURE = False
    assert found() == ["latchkey.W001"]
    settings.DEBUG = True
    assert not found()


def test_cookie_without_secure_does_not_stop_the_start(settings: Settings) -> None:
    settings.TOKENS_COOKIE_SECURE = False
    call_command("check")


@pytest.mark.parametrize("name", ["refresh token", "refresh;token", "refresh=token", "réfresh", "a,b", "a/b", "a\n"])
def test_invalid_cookie_name_is_an_error(settings: Settings, name: str) -> None:
    settings.TOKENS_COOKIE_NAME = name
    assert found() == ["latchkey.E003"]


@pytest.mark.parametrize(
    ("name", "path", "secure", "expected"),
    [
        ("__Host-rt", "/", True, []),
        ("__Host-rt", "/auth", True, ["latchkey.E004"]),
        ("__host-rt", "/auth", True, ["latchkey.E004"]),
        ("__Host-rt", "/auth", False, ["latchkey.E004", "latchkey.E004"]),
        ("__Secure-rt", "/auth", True, []),
        ("__Secure-rt", "/auth", False, ["latchkey.E004"]),
        ("Host-rt", "/auth", False, []),
    ],
)
def test_cookie_name_prefix_is_enforced(
    settings: Settings, name: str, path: str, secure: bool, expected: list[str]
) -> None:
    settings.DEBUG = True
    settings.TOKENS_COOKIE_NAME, settings.TOKENS_COOKIE_PATH, settings.TOKENS_COOKIE_SECURE = name, path, secure
    assert found() == expected


@pytest.mark.parametrize(
    ("samesite", "secure", "expected"), [("Lax", False, []), ("None", True, []), ("None", False, ["latchkey.E016"])]
)
def test_cookie_for_other_sites_needs_secure(
    settings: Settings, samesite: str, secure: bool, expected: list[str]
) -> None:
    settings.DEBUG = True
    settings.TOKENS_COOKIE_SAMESITE, settings.TOKENS_COOKIE_SECURE = samesite, secure
    assert found() == expected


@pytest.mark.parametrize("path", ["/", "/auth", "/auth/"])
def test_cookie_path_covers_the_endpoints(settings: Settings, path: str) -> None:
    settings.TOKENS_COOKIE_PATH = path
    assert not found()


@pytest.mark.parametrize("path", ["/api", "/aut", "/auth/r", "/auth/refresh-token/", "auth", "/auth;", "/aüth"])
def test_cookie_path_elsewhere_is_an_error(settings: Settings, path: str) -> None:
    settings.TOKENS_COOKIE_PATH = path
    assert messages() == [
        Error(f"TOKENS_COOKIE_PATH must cover {url}, or browsers don't send the cookie there.", id="latchkey.E005")
        for url in ("/auth/refresh-token", "/auth/logout")
    ]


def test_cookie_path_that_covers_the_refresh_only_is_an_error(settings: Settings) -> None:
    settings.TOKENS_COOKIE_PATH = "/auth/refresh-token"
    sentence = "TOKENS_COOKIE_PATH must cover /auth/logout, or browsers don't send the cookie there."
    assert messages() == [Error(sentence, id="latchkey.E005")]


class Urls(ModuleType):
    """A project's URLs, which include the app in any way."""

    def __init__(self, *urlpatterns: Any) -> None:
        super().__init__("urls")
        self.urlpatterns = urlpatterns


APP = include("tokens.urls")


@pytest.mark.parametrize(
    ("urls", "fine", "paths"),
    [
        (Urls(path("v1/", APP)), "/v1/auth", "/v1/auth/refresh-token"),
        (Urls(path("v1/", include("tokens.urls", namespace="x"))), "/v1", "/v1/auth/refresh-token"),
        (Urls(path("<str:version>/", APP)), "/", "/<str:version>/auth/refresh-token"),
        (Urls(path("api/<str:version>/", APP)), "/api", "/api/<str:version>/auth/refresh-token"),
        (Urls(re_path(r"^(?P<version>v[12])/", APP)), "/", "/(?P<version>v[12])/auth/refresh-token"),
    ],
)
def test_cookie_path_covers_the_endpoints_wherever_they_are_included(
    settings: Settings, urls: Any, fine: str, paths: str
) -> None:
    settings.ROOT_URLCONF, settings.TOKENS_COOKIE_PATH = urls, fine
    assert not found()
    settings.TOKENS_COOKIE_PATH = "/auth"
    sentence = f"TOKENS_COOKIE_PATH must cover {paths}, or browsers don't send the cookie there."
    assert Error(sentence, id="latchkey.E005") in messages()


def test_uncheckable_cookie_path_is_reported(settings: Settings) -> None:
    settings.ROOT_URLCONF = "nowhere.urls"
    assert list(checks.check_cookie_path()) == [
        Warning(
            "TOKENS_COOKIE_PATH could not be checked: ROOT_URLCONF can't be read (No module named 'nowhere').",
            id="latchkey.W011",
        )
    ]


@pytest.mark.parametrize("urls", ["rest_framework.urls", None])
def test_cookie_path_is_not_checked_without_endpoints(settings: Settings, urls: str | None) -> None:
    settings.TOKENS_COOKIE_PATH = "/elsewhere"
    settings.ROOT_URLCONF = urls
    assert not list(checks.check_cookie_path())


# Times and numbers


@pytest.mark.parametrize("seconds", [0, 60])
def test_grace_period_within_its_limits_is_fine(settings: Settings, seconds: int) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(seconds=seconds)
    assert not found()


@pytest.mark.parametrize("seconds", [-1, 61])
def test_grace_period_beyond_its_limits_is_an_error(settings: Settings, seconds: int) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(seconds=seconds)
    assert found() == ["latchkey.E006"]


@pytest.mark.parametrize(
    ("access", "refresh", "session", "expected"),
    [
        (1, 2, 2, []),
        (2, 2, 2, ["latchkey.W002"]),
        (1, 3, 2, ["latchkey.W002"]),
        (0, 2, 3, ["latchkey.E007"]),
        (-1, 0, 0, ["latchkey.E007", "latchkey.E007", "latchkey.E007", "latchkey.W002"]),
    ],
)
def test_lifetimes_are_positive_and_in_order(
    settings: Settings, access: int, refresh: int, session: int, expected: list[str]
) -> None:
    settings.SIMPLE_JWT = {
        "ACCESS_TOKEN_LIFETIME": timedelta(days=access),
        "REFRESH_TOKEN_LIFETIME": timedelta(days=refresh),
    }
    settings.TOKENS_SESSION_LIFETIME = timedelta(days=session)
    assert found() == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0, []), (1, ["latchkey.W002"])])
def test_short_session_must_not_outlast_a_remembered_one(settings: Settings, seconds: int, expected: list[str]) -> None:
    settings.TOKENS_SHORT_SESSION_LIFETIME = settings.TOKENS_SESSION_LIFETIME = timedelta(days=7)
    settings.TOKENS_SHORT_SESSION_LIFETIME += timedelta(seconds=seconds)
    assert found() == expected


@pytest.mark.parametrize("name", ["SHORT_SESSION_LIFETIME", "RECENT_SIGN_IN"])
def test_lifetimes_must_not_be_zero(settings: Settings, name: str) -> None:
    setattr(settings, f"TOKENS_{name}", timedelta())
    assert messages() == [Error(f"TOKENS_{name} must be longer than zero.", id="latchkey.E007")]


def test_log_retention_must_not_be_zero(settings: Settings) -> None:
    settings.TOKENS_EVENT_LIFETIME = timedelta()
    assert messages() == [Error("TOKENS_EVENT_LIFETIME must be longer than zero.", id="latchkey.E007")]


def test_negative_cap_is_an_error(settings: Settings) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = -1
    assert found() == ["latchkey.E008"]
    settings.TOKENS_MAX_SESSIONS_PER_USER = 0
    assert not found()


# Keys


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def test_usable_signing_keys_are_fine(settings: Settings, pem: Path) -> None:
    settings.TOKENS_SIGNING_KEYS = [pem]
    assert not found()


def test_world_readable_signing_key_is_a_warning(settings: Settings, pem: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().public_key()
    public = tmp_path / "public.pem"
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    settings.TOKENS_SIGNING_KEYS = [str(pem), str(public)]
    public.chmod(0o644)
    for mode, expected in ((0o640, []), (0o644, ["latchkey.W012"])):
        pem.chmod(mode)
        assert found() == expected


def test_missing_signing_key_is_an_error(settings: Settings, pem: Path, tmp_path: Path) -> None:
    settings.TOKENS_SIGNING_KEYS = [str(pem), f"{tmp_path}/none.pem"]
    assert messages() == [
        Error(
            f"The signing key {tmp_path}/none.pem can't be read: No such file or directory.",
            hint="TOKENS_SIGNING_KEYS lists the files.",
            id="latchkey.E009",
        )
    ]


def test_broken_small_and_public_signing_keys_are_errors(settings: Settings, pem: Path) -> None:
    settings.TOKENS_SIGNING_KEYS = [str(pem)]
    small = generate_private_key(65537, 1024)
    public = Ed25519PrivateKey.generate().public_key()
    for content in (
        b"-----BEGIN PRIVATE KEY-----",
        small.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ):
        pem.write_bytes(content)
        assert found() == ["latchkey.E009"]


def test_keys_fetched_without_tls_are_an_error_outside_debug(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"JWK_URL": "http://issuer.example/jwks.json"}
    assert found() == ["latchkey.E010"]
    settings.DEBUG = True
    assert not found()


def test_keys_fetched_over_tls_are_fine(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"JWK_URL": "https://issuer.example/jwks.json"}
    assert not found()


def test_feed_read_without_tls_is_an_error_outside_debug(settings: Settings) -> None:
    settings.TOKENS_ENDED_URL = "http://billing:secret@issuer.example/auth/ended"
    assert found() == ["latchkey.E021"]
    settings.DEBUG = True
    assert not found()


def test_feed_read_over_tls_is_fine(settings: Settings) -> None:
    settings.TOKENS_ENDED_URL = "https://billing:secret@issuer.example/auth/ended"
    settings.TOKENS_ENDED_MAX_AGE = None
    assert not found()


# Other sites and services


@pytest.mark.parametrize(
    "origin",
    ["https://app.example", "http://localhost:3000", "https://[::1]:8443", "capacitor://localhost", "https://app:80"],
)
def test_well_formed_trusted_origin_is_fine(settings: Settings, origin: str) -> None:
    settings.TOKENS_TRUSTED_ORIGINS = [origin]
    assert not found()


@pytest.mark.parametrize(
    "origin",
    [
        "app.example",
        "https://app.example/",
        "https://app.example/path",
        "https://*.example",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://user@app.example",
        "https://äpp.example",
        "https://app.example\n",
        "null",
        "*",
    ],
)
def test_malformed_trusted_origin_is_an_error(settings: Settings, origin: str) -> None:
    settings.TOKENS_TRUSTED_ORIGINS = ["https://app.example", origin]
    assert found() == ["latchkey.E011"]


def test_introspection_without_a_secret_is_an_error(settings: Settings) -> None:
    settings.DEBUG = True
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"gateway": ""}
    sentence = "TOKENS_INTROSPECTION_CREDENTIALS must have a secret for 'gateway'."
    assert messages() == [Error(sentence, id="latchkey.E012")]


def test_introspection_with_a_short_secret_is_a_warning_outside_debug(settings: Settings) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"gateway": "x" * 31, "mesh": "x" * 32}
    assert [(type(message), message.id) for message in messages()] == [(Warning, "latchkey.W003")]
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"gateway": "x" * 16}
    assert found() == ["latchkey.W003"]
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"gateway": "x" * 15}
    assert found() == ["latchkey.E012"]
    assert "xxx" not in str(messages())
    settings.DEBUG = True
    assert not found()


def test_no_limits_on_guessing_are_a_warning_outside_debug(settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    assert found() == ["latchkey.W004"]


@pytest.mark.parametrize(("mode", "ids"), [("optional", ["W009"]), ("required", ["W009"]), ("off", [])])
def test_dpop_with_any_host_allowed_is_an_error(settings: Settings, mode: str, ids: list[str]) -> None:
    settings.TOKENS_DPOP, settings.ALLOWED_HOSTS = mode, ["example.com", "*"]
    assert found() == [f"latchkey.{name}" for name in ids]
    settings.ALLOWED_HOSTS = ["example.com"]
    assert not found()
    settings.DEBUG = True
    assert not found()


# Other parts of the project

HOOKS = {
    "TOKENS_ACCESS_CLAIMS": "a function",
    "TOKENS_SESSION_EXCHANGE": "a function",
    "TOKENS_SECOND_FACTOR": "a module or an object",
}


@pytest.mark.parametrize(
    "path", ["nowhere.claims", "claims", ".claims", "tokens.checks.nothing", "tokens.checks.RULES"]
)
@pytest.mark.parametrize("setting", HOOKS)
def test_hook_that_cannot_be_imported_is_an_error(settings: Settings, setting: str, path: str) -> None:
    setattr(settings, setting, path)
    assert found() == ["latchkey.E013"]
    assert messages()[0].msg.startswith(f"{setting} must name {HOOKS[setting]}")


def test_function_for_access_claims_is_fine(settings: Settings) -> None:
    settings.TOKENS_ACCESS_CLAIMS = "tokens.domain.sessions.introspect"
    assert not found()


SESSIONS = "django.contrib.sessions.backends"
SHARED = "django.core.cache.backends.db.DatabaseCache"
OWN = "django.core.cache.backends.locmem.LocMemCache"
NONE = "django.core.cache.backends.dummy.DummyCache"


@pytest.mark.parametrize(
    ("engine", "cache", "expected"),
    [
        (f"{SESSIONS}.db", OWN, []),
        (f"{SESSIONS}.file", OWN, []),
        (f"{SESSIONS}.cache", SHARED, []),
        (f"{SESSIONS}.cached_db", SHARED, []),
        (f"{SESSIONS}.signed_cookies", SHARED, ["latchkey.E022"]),
        (f"{SESSIONS}.cache", OWN, ["latchkey.E022"]),
        (f"{SESSIONS}.cache", NONE, ["latchkey.E022"]),
        (f"{SESSIONS}.cached_db", OWN, ["latchkey.E022"]),
        (__name__, OWN, ["latchkey.W013"]),
        ("nowhere.sessions", OWN, ["latchkey.W013"]),
        (SESSIONS, OWN, ["latchkey.W013"]),
    ],
)
def test_exchange_needs_server_side_sessions(settings: Settings, engine: str, cache: str, expected: list[str]) -> None:
    settings.SESSION_ENGINE = engine
    settings.CACHES = {"default": {"BACKEND": cache, "LOCATION": "sessions"}}
    assert not found()
    settings.TOKENS_SESSION_EXCHANGE = "tests.tokens.test_exchange.signed_in_by"
    assert found() == expected


class SessionStore(SessionBase):
    """An engine of the project's own."""


def test_exchange_needs_the_session_middleware(settings: Settings) -> None:
    settings.TOKENS_SESSION_EXCHANGE = "tests.tokens.test_exchange.signed_in_by"
    settings.MIDDLEWARE = ["nowhere.Middleware", "tests.tokens.test_exchange.somebody_else"]
    sentence = "TOKENS_SESSION_EXCHANGE needs SessionMiddleware and AuthenticationMiddleware in MIDDLEWARE."
    assert list(checks.check_session_exchange()) == [Error(sentence, id="latchkey.E022")]


@pytest.mark.parametrize("path", ["tests.tokens.factors", "tests.tokens.factors.PIN"])
def test_module_or_object_for_the_second_factor_is_fine(settings: Settings, path: str) -> None:
    settings.TOKENS_SECOND_FACTOR = path
    assert not found()


def test_hasher_without_its_package_is_a_warning(settings: Settings) -> None:
    hashers = "django.contrib.auth.hashers"
    settings.PASSWORD_HASHERS = [f"{hashers}.PBKDF2PasswordHasher", f"{hashers}.BCryptSHA256PasswordHasher"]
    assert found() == ["latchkey.W010"]
    assert "BCryptSHA256PasswordHasher" in messages()[0].msg


def test_djangos_default_hashers_are_fine(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS
    assert not found()


LEGACY = {"UNTIL": datetime(2026, 12, 1, tzinfo=UTC)}


@pytest.mark.django_db
def test_legacy_with_the_old_settings_is_fine(settings: Settings) -> None:
    settings.TOKENS_LEGACY = LEGACY | {"ISSUER": None, "COOKIES": ["refresh"], "USER_ID_FIELD": "pk"}
    others = [app for app in settings.INSTALLED_APPS if "admin" not in app.lower()]
    settings.INSTALLED_APPS = [*others, "rest_framework_simplejwt.token_blacklist"]
    assert not [*checks.check_legacy(), *checks.check_legacy_tables(), *checks.check_blacklist()]


@pytest.mark.parametrize(
    "value", [[], {}, {"UNTIL": "tomorrow"}, LEGACY | {"COOKIES": "refresh"}, LEGACY | {"ISSUER": 1}]
)
def test_malformed_legacy_setting_is_an_error(settings: Settings, value: Any) -> None:
    settings.TOKENS_LEGACY = value
    assert found() == ["latchkey.E015"]


@pytest.mark.django_db
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(("wrong", "expected"), [
    ({"SIGN_KEY": STRONG}, "latchkey.E023"),
    ({"nonsense": 1}, "latchkey.E023"),
    ({"ALGORITHM": "HS1"}, "latchkey.E024"),
    ({"ALGORITHM": "RS256"}, "latchkey.E024"),
    ({"ALGORITHM": "RS256", "VERIFYING_KEY": "no PEM"}, "latchkey.E024"),
    ({"USER_ID_FIELD": "uid"}, "latchkey.E025"),
    ({"SIGNING_KEY": "secret"}, "latchkey.W014"),
])  # fmt: skip
def test_impossible_legacy_settings_are_named(settings: Settings, wrong: dict[str, Any], expected: str) -> None:
    settings.TOKENS_LEGACY = LEGACY | wrong
    assert found() == [expected]


@pytest.mark.django_db
def test_tables_of_the_blacklist_without_its_app_are_an_error(settings: Settings) -> None:
    settings.TOKENS_LEGACY = LEGACY
    assert not found()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE token_blacklist_blacklistedtoken (id integer)")
    assert found() == ["latchkey.E026"]


def test_unreadable_tables_are_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(cursor: object = None) -> Any:
        raise OperationalError("no route to host")

    settings.TOKENS_LEGACY = LEGACY
    monkeypatch.setattr(connection.introspection, "table_names", down)
    assert found() == ["latchkey.W015"]


def test_blacklist_of_simplejwt_is_a_warning(settings: Settings) -> None:
    others = [app for app in settings.INSTALLED_APPS if "admin" not in app.lower()]
    settings.INSTALLED_APPS = [*others, "rest_framework_simplejwt.token_blacklist"]
    assert [(type(message), message.id) for message in checks.check_blacklist()] == [(Warning, "latchkey.W005")]


# Types


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_LIFETIME", 90),
        ("SHORT_SESSION_LIFETIME", 43200),
        ("RECENT_SIGN_IN", 600),
        ("GRACE_PERIOD", 10),
        ("LATE_RETRY", "off"),
        ("MAX_SESSIONS_PER_USER", "100"),
        ("MAX_SESSIONS_PER_USER", True),
        ("EVENT_LIFETIME", None),
        ("COOKIE_NAME", ""),
        ("COOKIE_NAME", None),
        ("COOKIE_PATH", None),
        ("COOKIE_SECURE", "true"),
        ("COOKIE_SAMESITE", "none"),
        ("COOKIE_SAMESITE", None),
        ("TRUSTED_ORIGINS", "https://app.example"),
        ("TRUSTED_ORIGINS", [b"https://app.example"]),
        ("SIGNING_KEYS", "key.pem"),
        ("SIGNING_KEYS", [""]),
        ("INTROSPECTION_CREDENTIALS", ["gateway:secret"]),
        ("INTROSPECTION_CREDENTIALS", {"gateway": None}),
        ("ACCESS_CLAIMS", claims),
        ("ACCESS_CLAIMS", ""),
        ("SECOND_FACTOR", claims),
        ("SESSION_EXCHANGE", claims),
        ("LOGIN_HINT", None),
        ("THROTTLING", "off"),
        ("DPOP", "on"),
        ("DPOP", True),
        ("PUBLIC_URL", None),
        ("PUBLIC_URL", "example.com"),
        ("PUBLIC_URL", "ftp://example.com"),
        ("PUBLIC_URL", "https://ann@example.com"),
        ("LIMITS", {"login": (0, 60.0)}),
        ("LIMITS", {"login": (1, 0)}),
        ("LIMITS", {"login": "10/m"}),
        ("THROTTLE_RATES", {"login": "sixty/minute"}),
        ("THROTTLE_RATES", {"login": 60}),
    ],
)
def test_setting_of_the_wrong_type_is_an_error(settings: Settings, name: str, value: object) -> None:
    setattr(settings, f"TOKENS_{name}", value)
    assert found() == ["latchkey.E015"]
    assert messages()[0].msg.startswith(f"TOKENS_{name} must be ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCESS_TOKEN_LIFETIME", 900),
        ("REFRESH_TOKEN_LIFETIME", "7d"),
        ("AUDIENCE", ["https://api.example", ""]),
        ("AUDIENCE", 1),
        ("LEEWAY", "10"),
        ("LEEWAY", -1),
        ("LEEWAY", float("inf")),
        ("AUTH_HEADER_TYPES", ()),
        ("AUTH_HEADER_TYPES", None),
        ("AUTH_HEADER_NAME", None),
        ("JWK_URL", 1),
    ],
)
def test_setting_of_simplejwt_of_the_wrong_type_is_an_error(settings: Settings, name: str, value: object) -> None:
    settings.SIMPLE_JWT = {name: value}
    assert found() == ["latchkey.E015"]
    assert messages()[0].msg.startswith(f"SIMPLE_JWT['{name}'] must be ")


@pytest.mark.parametrize("issuer", [1, " "])
def test_malformed_issuer_is_an_error(settings: Settings, issuer: object) -> None:
    settings.SIMPLE_JWT = {"ISSUER": issuer, "AUDIENCE": "https://api.example"}
    assert found() == ["latchkey.E015"]


@pytest.mark.parametrize("simple_jwt", [None, [], "HS256"])
def test_simple_jwt_that_is_not_a_dictionary_is_an_error(settings: Settings, simple_jwt: object) -> None:
    settings.SIMPLE_JWT = simple_jwt
    assert set(found()) == {"latchkey.E015"}


def test_settings_of_every_right_kind_are_fine(settings: Settings) -> None:
    settings.SIMPLE_JWT = {
        "ISSUER": "https://auth.example",
        "AUDIENCE": ("https://api.example", "https://app.example"),
        "LEEWAY": timedelta(seconds=5),
        "AUTH_HEADER_TYPES": "JWT",
        "AUTH_HEADER_NAME": "HTTP_X_TOKEN",
    }
    settings.TOKENS_INTROSPECTION_CREDENTIALS = UserDict({"gateway": "x" * 32})
    settings.TOKENS_LIMITS = {"login": (5, 30)}
    settings.TOKENS_THROTTLE_RATES = {"login": "10/m", "refresh": None}
    settings.TOKENS_TRUSTED_ORIGINS = ("https://app.example",)
    assert not found()


# Settings of a project that comes from SimpleJWT


@pytest.mark.parametrize("name", sorted(checks.WITHOUT_EFFECT))
def test_setting_without_effect_is_named(settings: Settings, name: str) -> None:
    settings.SIMPLE_JWT = {name: "anything"}
    sentence = f"SIMPLE_JWT[{name!r}] has no effect. Remove it."
    assert messages() == [Warning(sentence, hint=checks.WITHOUT_EFFECT[name], id="latchkey.W006")]


def test_every_setting_of_simplejwt_has_an_effect_or_is_named() -> None:
    known = {rule.setting.split("'")[1] for rule in checks.RULES.values() if "SIMPLE_JWT" in rule.setting}
    assert set(api_settings.defaults) <= known | set(checks.WITHOUT_EFFECT)
    assert not known & set(checks.WITHOUT_EFFECT)


def test_misspelt_setting_is_named_with_a_suggestion(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIM": timedelta(minutes=1), "X": 1, "AUTH_COOKIE_SECURE": True}
    assert messages() == [
        Warning(
            "SIMPLE_JWT['ACCESS_TOKEN_LIFETIM'] is not a setting.",
            hint="Did you mean 'ACCESS_TOKEN_LIFETIME'?",
            id="latchkey.W007",
        ),
        Warning("SIMPLE_JWT['X'] is not a setting.", id="latchkey.W007"),
    ]


def test_misspelt_setting_of_ours_is_named(settings: Settings) -> None:
    settings.TOKENS_TRUSTED_PROXY = 1
    settings.TOKENS_OF_ANOTHER_APP = 1
    assert messages() == [
        Warning(
            "TOKENS_TRUSTED_PROXY is not a setting.",
            hint="Did you mean 'TOKENS_TRUSTED_PROXIES'?",
            id="latchkey.W017",
        )
    ]


@pytest.mark.parametrize(("rotates", "expected"), [(True, []), (False, ["latchkey.W008"]), ("no", ["latchkey.E015"])])
def test_refresh_without_rotation_is_a_warning(settings: Settings, rotates: Any, expected: list[str]) -> None:
    settings.SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": rotates}
    assert found() == expected


class PlainSerializer(TokenRefreshSerializer):
    pass


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("USER_AUTHENTICATION_RULE", "nowhere.rule", "a function that can be imported"),
        ("USER_AUTHENTICATION_RULE", f"{__name__}.STRONG", "a function that can be imported"),
        ("ON_LOGIN_SUCCESS", "nowhere", "a function that can be imported"),
        ("ON_LOGIN_FAILED", "nowhere.f", "a function that can be imported"),
        ("JSON_ENCODER", f"{__name__}.found", "a subclass of json.encoder.JSONEncoder"),
        ("JSON_ENCODER", "nowhere.Encoder", "a subclass of json.encoder.JSONEncoder"),
        ("TOKEN_USER_CLASS", dict, "a subclass of tokens.models.TokenUser"),
        ("TOKEN_OBTAIN_SERIALIZER", dict, "a subclass of tokens.serializers.CredentialsSerializer"),
        (
            "TOKEN_REFRESH_SERIALIZER",
            f"{__name__}.TokenObtainPairSerializer",
            "a subclass of tokens.serializers.TokenRefreshSerializer",
        ),
        ("TOKEN_VERIFY_SERIALIZER", "nowhere.V", "a subclass of tokens.serializers.TokenVerifySerializer"),
        ("TOKEN_BLACKLIST_SERIALIZER", "nowhere.V", "a subclass of tokens.serializers.TokenBlacklistSerializer"),
    ],
)
def test_unusable_login_setting_is_an_error(settings: Settings, name: str, value: Any, wanted: str) -> None:
    settings.SIMPLE_JWT = {name: value}
    assert messages() == [Error(f"SIMPLE_JWT['{name}'] must name {wanted}, not {value!r}.", id="latchkey.E017")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lambda user: user is not None, ["latchkey.W016"]),
        (lambda user: user.is_active, []),
        (lambda user: user.groups.exists(), []),  # it needs a row
        (None, []),
    ],
)
def test_rule_that_lets_inactive_users_in_is_a_warning(settings: Settings, rule: Any, expected: list[str]) -> None:
    settings.SIMPLE_JWT = {"USER_AUTHENTICATION_RULE": rule}
    assert found() == expected


def test_usable_login_setting_is_fine(settings: Settings) -> None:
    settings.SIMPLE_JWT = {
        "USER_AUTHENTICATION_RULE": found,
        "ON_LOGIN_FAILED": f"{__name__}.found",
        "JSON_ENCODER": "rest_framework.utils.encoders.JSONEncoder",
        "TOKEN_OBTAIN_SERIALIZER": "rest_framework_simplejwt.serializers.TokenObtainPairSerializer",
        "TOKEN_REFRESH_SERIALIZER": PlainSerializer,
    }
    assert not found()


@pytest.mark.parametrize("value", [1, ["path"]])
def test_value_that_is_not_a_path_has_the_wrong_type(settings: Settings, value: Any) -> None:
    settings.SIMPLE_JWT = {"JSON_ENCODER": value, "ON_LOGIN_FAILED": value}
    assert found() == ["latchkey.E015", "latchkey.E015"]


# The user model and the databases


def test_unsupported_user_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "get_user_model", lambda: Session)
    sentence = (
        "AUTH_USER_MODEL must be a subclass of AbstractBaseUser: sessions end when its session auth hash changes."
    )
    assert list(checks.check_user_model()) == [Error(sentence, id="latchkey.E018")]


def test_unsupported_database_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connections["default"]), "vendor", "mysql")
    assert list(checks.check_databases()) == [
        Error(
            "DATABASES['default'] is mysql, but sessions need PostgreSQL or SQLite.",
            hint="A database router can store sessions and users in another database.",
            id="latchkey.E019",
        )
    ]


class UsersElsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "people" if model is get_user_model() else None


def test_users_in_another_database_are_an_error(settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [UsersElsewhere()]
    expected = "Users are in DATABASES['people'], but must be in 'default' with the sessions: one query reads both."
    assert [message.msg for message in checks.check_databases()] == [expected]
    assert found() == ["latchkey.E020"]


def test_service_without_a_database_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connections["default"]
    monkeypatch.setattr(type(connection), "vendor", "unknown")
    monkeypatch.setitem(connection.settings_dict, "ENGINE", checks.NO_DATABASE)
    assert list(checks.check_databases()) == []
