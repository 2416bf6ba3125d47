from collections.abc import Iterable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.urls import get_resolver
from pytest_django import Settings

from config.domains import passkey_domain
from config.serving.checks import OWN_PATHS, check_variables

CONSOLE, SMTP = (f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "smtp"))


def found() -> list[str]:
    return [f"{message.id}" for message in run_checks() if f"{message.id}".startswith("config.")]


def test_test_settings_pass_every_check() -> None:
    assert found() == []


@pytest.mark.parametrize(("token", "ids"), [("", []), ("x" * 15, ["config.E001"]), ("x" * 16, [])])
def test_short_token_stops_the_start(settings: Settings, token: str, ids: list[str]) -> None:
    settings.METRICS_TOKEN = token
    assert found() == ids


@pytest.mark.parametrize(
    ("notices", "ids"),
    [
        ([], []),
        (["all"], []),
        (["token_reused"], []),
        (["new_signin"], ["config.E002"]),
        (["verify_email"], ["config.E002"]),
    ],
)
def test_unknown_notice_stops_the_start(settings: Settings, notices: list[str], ids: list[str]) -> None:
    settings.NOTICES = notices
    assert found() == ids


@pytest.mark.parametrize(
    ("backend", "debug", "ids"), [(CONSOLE, True, []), (CONSOLE, False, ["config.W001"]), (SMTP, False, [])]
)
def test_mails_in_the_log_cause_a_warning(settings: Settings, backend: str, debug: bool, ids: list[str]) -> None:
    settings.EMAIL_BACKEND, settings.DEBUG = backend, debug
    assert found() == ids


WEB, APP = "https://app.example.com/reset#{uid}/{token}", "myapp://reset?uid={uid}&token={token}"


@pytest.mark.parametrize("name", ["PASSWORD_RESET_URL", "EMAIL_VERIFICATION_URL"])
@pytest.mark.parametrize(
    ("url", "ids"),
    [
        ("", []),
        (WEB, []),
        (APP, []),
        ("https://app.example.com/reset#{uid}", ["config.E003"]),
        ("https://app.example.com/reset#{token}", ["config.E003"]),
        ("javascript:alert('{uid}{token}')", ["config.E004"]),
        ("JavaScript:alert('{uid}{token}')", ["config.E004"]),
        ("java\tscript:alert('{uid}{token}')", ["config.E004"]),
        (" javascript:alert('{uid}{token}')", ["config.E004"]),
        ("data:text/html,{uid}{token}", ["config.E004"]),
        ("file:///{uid}/{token}", ["config.E004"]),
        ("vbscript:{uid}{token}", ["config.E004"]),
        ("/reset#{uid}/{token}", ["config.E004"]),
        ("https://app.example.com/reset?uid={uid}&token={token}", ["config.W002"]),
        ("https://app.example.com/reset/{uid}#{token}", ["config.W002"]),
        ("http://app.example.com/reset#{uid}/{token}", ["config.W003"]),
    ],
)
def test_external_link_urls_are_checked(settings: Settings, name: str, url: str, ids: list[str]) -> None:
    setattr(settings, name, url)
    assert found() == ids


def test_link_without_tls_is_allowed_in_debug(settings: Settings) -> None:
    settings.DEBUG, settings.PASSWORD_RESET_URL = True, "http://localhost:3000/reset#{uid}/{token}"
    assert found() == []


@pytest.mark.parametrize(
    ("path", "ids"),
    [(None, []), ("/sso", []), ("/sso/auth", []), ("/auth", ["config.E005"]), ("/api/x", ["config.E005"])],
)
def test_link_path_that_the_server_uses_itself_is_an_error(
    settings: Settings, path: str | None, ids: list[str]
) -> None:
    settings.FORCE_SCRIPT_NAME = path
    assert [check for check in found() if check == "config.E005"] == ids


def test_known_paths_match_the_urls() -> None:
    def firsts(patterns: Iterable[Any]) -> set[str]:
        found = set()
        for pattern in patterns:
            route = str(pattern.pattern)
            inner = getattr(pattern, "url_patterns", ())
            found |= {route.partition("/")[0]} if route else firsts(inner)
        return found

    paths = firsts(get_resolver().url_patterns) - {"", r"^(?:api|auth)(?:"}
    assert paths | {"static", "metrics"} == OWN_PATHS


@pytest.mark.parametrize(
    ("name", "hint"),
    [("REFRESH_COKIE_NAME", "Did you mean REFRESH_COOKIE_NAME?"), ("QX", ".env.example lists the variables.")],
)
def test_unknown_variable_is_reported(settings: Settings, name: str, hint: str) -> None:
    settings.UNKNOWN_VARIABLES = [name]
    [warning] = check_variables()
    assert (warning.id, warning.hint) == ("config.W004", hint)
    assert name in warning.msg


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({"PASSKEYS": False, "PASSKEY_RP_ID": "127.0.0.1"}, []),
        ({"PASSKEY_RP_ID": ""}, ["config.W005"]),
        ({"PASSKEY_RP_ID": "127.0.0.1"}, ["config.E006"]),
        ({"PASSKEY_RP_ID": "[::1]"}, ["config.E006"]),
        (
            {"PASSKEY_RP_ID": "example.com", "PASSKEY_ORIGINS": ["https://app.example.com", "android:apk-key-hash:x"]},
            [],
        ),
        ({"PASSKEY_RP_ID": "example.com", "PASSKEY_ORIGINS": ["https://notexample.com"]}, ["config.E007"]),
    ],
)
def test_passkey_domain_must_match_its_origins(settings: Settings, changes: dict[str, Any], ids: list[str]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert found() == ids


def test_ip_address_in_the_public_url_is_not_a_domain() -> None:
    assert passkey_domain("http://127.0.0.1:8000") == ""
    assert passkey_domain("https://auth.example.com/sso") == "auth.example.com"
