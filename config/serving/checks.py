"""System checks of what the project adds to its apps' settings, each under an id that is never given to another."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks

from tokens import kinds

METRICS_TOKEN_MIN_LENGTH = 16


@checks.register(checks.Tags.security)
def check_metrics_token(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if 0 < len(settings.METRICS_TOKEN) < METRICS_TOKEN_MIN_LENGTH:
        yield checks.Error(
            f"METRICS_TOKEN must have {METRICS_TOKEN_MIN_LENGTH} random characters or more, or be empty.",
            hint='python -c "import secrets; print(secrets.token_urlsafe())" makes one.',
            id="config.E001",
        )


@checks.register
def check_notices(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if unknown := set(settings.NOTICES).difference(kinds.notices()):
        yield checks.Error(
            f"NOTICES names what is no notice: {', '.join(sorted(unknown))}.",
            hint="docs/settings.md lists those that there are.",
            id="config.E002",
        )


@checks.register(checks.Tags.security)
def check_mails_leave(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if settings.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend" and not settings.DEBUG:
        yield checks.Warning(
            "Mails are written to the output of the server, and so to its log, with the links in them.",
            hint="Set EMAIL_URL, as in smtp+tls://user:password@host:587.",
            id="config.W001",
        )
