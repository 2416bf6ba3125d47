import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

import config.gunicorn
import config.settings
from tests.accounts.mails import HINT

ROOT = Path(config.settings.__file__).parent.parent

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read the settings again, in the tests' environment with the call's additions."""

    def read(**environment: str) -> dict[str, Any]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(config.settings.__file__)

    return read


def test_env_example_lists_every_variable() -> None:
    source = "".join(Path(str(module.__file__)).read_text() for module in (config.settings, config.gunicorn))
    read = set(re.findall(r"""env\.\w+\(\s*["']([A-Z_]+)["']""", source))
    example = re.findall(r"(?m)^#?([A-Z_]+)=", (ROOT / ".env.example").read_text())
    assert sorted(read) == sorted(example)


def test_defaults_match_the_example(read: Settings, tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    (tmp_path / "all").write_text(re.sub(r"(?m)^#([A-Z_]+=)", r"\1", example).replace("DEBUG=true", ""))
    plain = read(DATABASE_URL="")
    spelled_out = read(DATABASE_URL="", ENV_FILE=str(tmp_path / "all"))
    settings = {name for name in plain if name.isupper()}
    assert {name: spelled_out[name] for name in settings} == {name: plain[name] for name in settings}


def test_debug_relaxes_cookies_and_hsts(read: Settings) -> None:
    settings = read(DEBUG="on")
    assert settings["DEBUG"] is True
    cookies = [settings[f"{name}_COOKIE_SECURE"] for name in ("TOKENS", "SESSION", "CSRF")]
    assert cookies == [False, False, False]
    assert settings["SECURE_HSTS_SECONDS"] == 0


@pytest.mark.parametrize("token", ["", "a-token-that-only-the-scraper-has"])
def test_metrics_are_not_redirected_to_tls_if_enabled(read: Settings, token: str) -> None:
    exempt = read(METRICS_TOKEN=token, SECURE_SSL_REDIRECT="on")["SECURE_REDIRECT_EXEMPT"]
    assert any(re.search(path, "metrics") for path in exempt) is bool(token)


def test_requests_are_measured_only_if_metrics_are_enabled(read: Settings) -> None:
    measuring = "config.serving.metrics.Measuring"
    assert measuring not in read(METRICS_TOKEN="")["MIDDLEWARE"]
    assert read(METRICS_TOKEN="a-token-that-only-the-scraper-has")["MIDDLEWARE"][0] == measuring


def test_lifetimes_are_seconds(read: Settings) -> None:
    settings = read(ACCESS_TOKEN_LIFETIME="5", REFRESH_TOKEN_LIFETIME="60")
    assert settings["SIMPLE_JWT"]["ACCESS_TOKEN_LIFETIME"] == timedelta(seconds=5)
    assert settings["SIMPLE_JWT"]["REFRESH_TOKEN_LIFETIME"] == timedelta(minutes=1)
    settings = read(SESSION_LIFETIME="600", SHORT_SESSION_LIFETIME="300", RECENT_SIGN_IN="30", REFRESH_GRACE_PERIOD="0")
    assert settings["TOKENS_SESSION_LIFETIME"] == timedelta(minutes=10)
    assert settings["TOKENS_SHORT_SESSION_LIFETIME"] == timedelta(minutes=5)
    assert settings["TOKENS_RECENT_SIGN_IN"] == timedelta(seconds=30)
    assert settings["TOKENS_GRACE_PERIOD"] == timedelta(0)


def test_issuer_defaults_to_the_public_url_and_audience_to_the_issuer(read: Settings) -> None:
    settings = read(PUBLIC_URL="https://auth.example.com/")
    assert settings["PUBLIC_URL"] == "https://auth.example.com"
    assert settings["SIMPLE_JWT"]["ISSUER"] == settings["SIMPLE_JWT"]["AUDIENCE"] == "https://auth.example.com"
    assert settings["ALLOWED_HOSTS"] == ["auth.example.com", "localhost", "127.0.0.1", "[::1]"]
    assert read(JWT_ISSUER="us")["SIMPLE_JWT"]["AUDIENCE"] == "us"


def test_public_url_defaults_to_localhost_and_the_port(read: Settings) -> None:
    assert read(PORT="8080", PUBLIC_URL="")["PUBLIC_URL"] == "http://localhost:8080"


def test_path_of_the_public_url_applies_to_cookies_and_files(read: Settings) -> None:
    settings = read(PUBLIC_URL="https://example.com/sso/", SECURE_SSL_REDIRECT="on", METRICS_TOKEN="x" * 16)
    assert settings["FORCE_SCRIPT_NAME"] == "/sso"
    assert settings["STATIC_URL"] == "/sso/static/"
    assert settings["TOKENS_COOKIE_PATH"] == "/sso/auth"
    assert settings["SESSION_COOKIE_PATH"] == settings["CSRF_COOKIE_PATH"] == "/sso/"
    assert settings["TOKENS_PUBLIC_URL"] == "https://example.com/sso"
    for path in ("sso/health/live", "sso/metrics"):
        assert any(re.search(exempt, path) for exempt in settings["SECURE_REDIRECT_EXEMPT"])


def test_cookie_for_other_sites_is_secure_even_in_debug(read: Settings) -> None:
    settings = read(DEBUG="true", REFRESH_COOKIE_SAMESITE="none")
    assert (settings["TOKENS_COOKIE_SAMESITE"], settings["TOKENS_COOKIE_SECURE"]) == ("None", True)


def test_unknown_variable_in_the_file_is_reported(read: Settings, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(
        "# FOO=1\nREFRESH_COKIE_NAME=rt\nexport PORT=8000\nWORKERS=2\nEMPTY=\nMETRICS_TOKEN=\n"
    )
    assert read(ENV_FILE=str(tmp_path / "env"))["UNKNOWN_VARIABLES"] == ["REFRESH_COKIE_NAME"]
    assert read(ENV_FILE=str(tmp_path / "none"))["UNKNOWN_VARIABLES"] == []


def test_lists_are_split_at_commas(read: Settings) -> None:
    settings = read(
        SECRET_KEY_FALLBACKS="one, two,",
        ALLOWED_HOSTS="a.example,.b.example",
        TRUSTED_ORIGINS="https://App.example.com:443,http://localhost:3000",
        SIGNING_KEYS="/keys/new.pem,/keys/old.pem",
        INTROSPECTION_CREDENTIALS="orders:s3cr:et,bills:other",
    )
    assert settings["SECRET_KEY_FALLBACKS"] == ["one", "two"]
    assert settings["ALLOWED_HOSTS"] == ["a.example", ".b.example"]
    assert settings["TOKENS_TRUSTED_ORIGINS"] == ["https://app.example.com", "http://localhost:3000"]
    assert settings["CORS_ALLOWED_ORIGINS"] == settings["TOKENS_TRUSTED_ORIGINS"]
    assert settings["TOKENS_SIGNING_KEYS"] == ["/keys/new.pem", "/keys/old.pem"]
    assert settings["TOKENS_INTROSPECTION_CREDENTIALS"] == {"orders": "s3cr:et", "bills": "other"}


def test_password_validators_follow_the_settings(read: Settings) -> None:
    *_, last = read()["AUTH_PASSWORD_VALIDATORS"]
    assert last == {"NAME": "accounts.validators.ForbiddenWordsValidator", "OPTIONS": {"words": []}}
    settings = read(PASSWORD_FORBIDDEN_WORDS="Acme, roadrunner", PWNED_PASSWORDS="on")
    *_, words, pwned = settings["AUTH_PASSWORD_VALIDATORS"]
    assert words["OPTIONS"] == {"words": ["Acme", "roadrunner"]}
    assert pwned == {"NAME": "accounts.pwned_passwords.PwnedPasswordsValidator"}


def test_login_hint_mentions_required_verification(read: Settings) -> None:
    settings = read()
    assert (settings["EMAIL_VERIFICATION_REQUIRED"], settings.get("TOKENS_LOGIN_HINT")) == (False, None)
    settings = read(EMAIL_VERIFICATION="required")
    assert settings["EMAIL_VERIFICATION_REQUIRED"] is True
    assert settings["TOKENS_LOGIN_HINT"] == HINT


def test_forwarded_headers_are_trusted_only_with_proxies(read: Settings) -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in read()
    settings = read(TRUSTED_PROXIES="2")
    assert settings["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert settings["USE_X_FORWARDED_HOST"] is True


def test_sqlite_file_lies_beside_manage_py(read: Settings) -> None:
    database = read(DATABASE_URL="")["DATABASES"]["default"]
    assert database["NAME"] == str(ROOT / "db.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert read(DATABASE_URL="sqlite:////srv/db.sqlite3")["DATABASES"]["default"]["NAME"] == "/srv/db.sqlite3"
    assert read(DATABASE_URL="sqlite://:memory:")["DATABASES"]["default"]["NAME"] == ":memory:"


def test_postgresql_keeps_no_state_in_a_connection(read: Settings) -> None:
    url = "postgresql://latchkey:s%40crt@db.example.com:6432/latchkey?sslmode=require&conn_max_age=0"
    database = read(DATABASE_URL=url)["DATABASES"]["default"]
    assert (database["USER"], database["PASSWORD"], database["PORT"]) == ("latchkey", "s@crt", 6432)
    assert database["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert database["CONN_MAX_AGE"] == 0
    assert database["OPTIONS"]["sslmode"] == "require"
    assert not database["OPTIONS"].keys() & {"options", "prepare_threshold", "assume_role", "isolation_level"}


def test_statements_are_prepared_if_configured(read: Settings) -> None:
    settings = read(DATABASE_URL="postgresql://user@host/name", DATABASE_PREPARED_STATEMENTS="true")
    options = settings["DATABASES"]["default"]["OPTIONS"]
    assert (options["server_side_binding"], options["prepare_threshold"]) == (True, 5)


def test_one_timeout_applies_to_both_engines(read: Settings) -> None:
    postgresql = "postgresql://db.example.com/latchkey"
    options = read(DATABASE_URL=postgresql)["DATABASES"]["default"]["OPTIONS"]
    assert options["connect_timeout"] == 10
    options = read(DATABASE_URL=postgresql, DATABASE_TIMEOUT="8")["DATABASES"]["default"]["OPTIONS"]
    assert options["connect_timeout"] == 8
    assert read(DATABASE_URL="")["DATABASES"]["default"]["OPTIONS"]["timeout"] == 8


def test_redis_has_short_timeouts(read: Settings) -> None:
    cache = read(CACHE_URL="redis://cache.example.com:6379/0")["CACHES"]["default"]
    assert cache["LOCATION"] == "redis://cache.example.com:6379/0"
    assert cache["OPTIONS"] == {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
    cache = read(CACHE_URL="redis://cache.example.com:6379/0?socket_timeout=2")["CACHES"]["default"]
    assert cache["OPTIONS"] == {"socket_connect_timeout": 0.5, "socket_timeout": 2}


def test_redis_without_its_package_stops_the_start(read: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        read(CACHE_URL="redis://:secret@cache.example.com:6379/0")
    assert str(caught.value) == (
        "The environment variable CACHE_URL needs the package redis (pip install redis). See .env.example."
    )


def test_mail_leaves_by_smtp_with_tls(read: Settings) -> None:
    settings = read(EMAIL_URL="smtp+tls://me:s%40crt@mail.example.com:587")
    assert settings["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert (settings["EMAIL_HOST"], settings["EMAIL_PORT"]) == ("mail.example.com", 587)
    assert (settings["EMAIL_HOST_USER"], settings["EMAIL_HOST_PASSWORD"]) == ("me", "s@crt")
    assert settings["EMAIL_USE_TLS"] is True


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SECRET_KEY", "", "must be set"),
        ("DEBUG", "maybe", "true or false"),
        ("REFRESH_COOKIE_SECURE", "2", "true or false"),
        ("REFRESH_LATE_RETRY", "yess", "true or false"),
        ("SECURE_SSL_REDIRECT", "no", "true or false"),
        ("THROTTLING", "none", "true or false"),
        ("PWNED_PASSWORDS", "maybe", "true or false"),
        ("ACCESS_TOKEN_LIFETIME", "15m", "a whole number"),
        ("REFRESH_TOKEN_LIFETIME", "-1", "a whole number"),
        ("SESSION_LIFETIME", "9" * 30, "a whole number"),
        ("REFRESH_GRACE_PERIOD", "1.5", "a whole number"),
        ("REFRESH_GRACE_PERIOD", "61", "a whole number from 0 to 60"),
        ("MAX_SESSIONS_PER_USER", "many", "a whole number"),
        ("DATABASE_TIMEOUT", "0", "a whole number from 1 to 3600"),
        ("TRUSTED_PROXIES", "11", "a whole number from 0 to 10"),
        ("ALLOWED_HOSTS", "https://example.com", "host names"),
        ("PUBLIC_URL", "example.com", "a URL like https://example.com"),
        ("PUBLIC_URL", "https://example.com/a b", "a URL like https://example.com"),
        ("PUBLIC_URL", "https://example.com/sso/../x", "a URL like https://example.com"),
        ("PUBLIC_URL", "https://example.com/sso?x=1", "a URL like https://example.com"),
        ("REFRESH_COOKIE_SAMESITE", "nobody", "strict or lax or none"),
        ("REFRESH_COOKIE_NAME", "a;b", "letters"),
        ("TRUSTED_ORIGINS", "https://app.example.com/", "without a path"),
        ("TRUSTED_ORIGINS", "*", "without a path"),
        ("TRUSTED_ORIGINS", "null", "without a path"),
        ("REGISTRATION", "perhaps", "open or closed"),
        ("EMAIL_VERIFICATION", "on", "optional or required"),
        ("INTROSPECTION_CREDENTIALS", "orders", "pairs like id:secret"),
        ("INTROSPECTION_CREDENTIALS", "orders:one,orders:two", "not repeat an id"),
        ("DATABASE_URL", "mysql://me:secret@db.example.com/latchkey", "postgresql://"),
        ("DATABASE_URL", "postgresql://me:secret@db.example.com:port/latchkey", "postgresql://"),
        ("CACHE_URL", "redis", "redis://"),
        ("CACHE_URL", "secret://", "redis://"),
        ("EMAIL_URL", "pigeon://secret", "smtp+tls://"),
    ],
)
def test_malformed_value_is_refused_with_a_clear_message(read: Settings, name: str, value: str, reason: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        read(**{name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"The environment variable {name} must ")
    assert reason in sentence
    assert sentence.endswith(". See .env.example.")
    assert value == "" or "secret@" not in sentence


def test_command_without_settings_ends_with_the_message_alone() -> None:
    command = [sys.executable, str(ROOT / "manage.py"), "makemigrations"]
    environment = {"ENV_FILE": os.devnull, "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    message = "The environment variable SECRET_KEY must be set. See .env.example.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
