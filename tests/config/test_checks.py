import pytest
from django.core.checks import run_checks
from pytest_django import Settings

CONSOLE, SMTP = (f"django.core.mail.backends.{name}.EmailBackend" for name in ("console", "smtp"))


def found() -> list[str]:
    return [f"{message.id}" for message in run_checks() if f"{message.id}".startswith("config.")]


def test_the_settings_of_the_tests_are_clean() -> None:
    assert found() == []


@pytest.mark.parametrize(("token", "ids"), [("", []), ("x" * 15, ["config.E001"]), ("x" * 16, [])])
def test_short_token_stops_the_start(settings: Settings, token: str, ids: list[str]) -> None:
    settings.METRICS_TOKEN = token
    assert found() == ids


@pytest.mark.parametrize(
    ("notices", "ids"),
    [([], []), (["token_reused"], []), (["new_signin"], ["config.E002"]), (["verify_email"], ["config.E002"])],
)
def test_notice_that_there_is_not_stops_the_start(settings: Settings, notices: list[str], ids: list[str]) -> None:
    settings.NOTICES = notices
    assert found() == ids


@pytest.mark.parametrize(
    ("backend", "debug", "ids"), [(CONSOLE, True, []), (CONSOLE, False, ["config.W001"]), (SMTP, False, [])]
)
def test_mails_in_the_log_are_warned_of(settings: Settings, backend: str, debug: bool, ids: list[str]) -> None:
    settings.EMAIL_BACKEND, settings.DEBUG = backend, debug
    assert found() == ids
