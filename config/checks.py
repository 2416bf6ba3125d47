"""System checks of what the project adds to its apps' settings, each under an id that is never given to another."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks

METRICS_TOKEN_MIN_LENGTH = 16


@checks.register(checks.Tags.security)
def check_metrics_token(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if 0 < len(settings.METRICS_TOKEN) < METRICS_TOKEN_MIN_LENGTH:
        yield checks.Error(
            f"METRICS_TOKEN must have {METRICS_TOKEN_MIN_LENGTH} random characters or more, or be empty.",
            hint='python -c "import secrets; print(secrets.token_urlsafe())" makes one.',
            id="config.E001",
        )
