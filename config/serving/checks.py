"""System checks of the project's own settings. No id is ever reused."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core import checks

from config.domains import is_address, is_within
from tokens import kinds

METRICS_TOKEN_MIN_LENGTH = 16

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[^\s\x00-\x1f\x7f]+\Z")
"""A URL with its scheme (RFC 3986, section 3.1), without blanks or control characters, which browsers would skip."""

DANGEROUS_SCHEMES = ("javascript", "data", "file", "vbscript")

OWN_PATHS = frozenset(
    (
        *(".well-known", "admin", "api", "auth", "client", "favicon.ico", "health", "metrics"),
        *("reset-password", "static", "verify-email"),
    )
)
"""The first segments of the paths in config.urls."""


@checks.register(checks.Tags.security)
def check_metrics_token(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if 0 < len(settings.METRICS_TOKEN) < METRICS_TOKEN_MIN_LENGTH:
        yield checks.Error(
            f"METRICS_TOKEN must have {METRICS_TOKEN_MIN_LENGTH} random characters or more, or be empty.",
            hint='python -c "import secrets; print(secrets.token_urlsafe())" generates one.',
            id="config.E001",
        )


@checks.register
def check_notices(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if unknown := set(settings.NOTICES).difference(kinds.notices(), ["all"]):
        yield checks.Error(
            f"NOTICES lists unknown notices: {', '.join(sorted(unknown))}.",
            hint="docs/settings.md lists the notices.",
            id="config.E002",
        )


@checks.register(checks.Tags.security)
def check_links(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check the URLs of mailed links, if they lead to other pages than the server's own."""
    for name in ("PASSWORD_RESET_URL", "EMAIL_VERIFICATION_URL"):
        if url := getattr(settings, name):
            yield from _check_link(name, url)


def _check_link(name: str, url: str) -> Iterator[checks.CheckMessage]:
    if "{uid}" not in url or "{token}" not in url:
        yield checks.Error(f"{name} must contain {{uid}} and {{token}}.", id="config.E003")
    scheme = SCHEME.match(url)
    if scheme is None or scheme[1].lower() in DANGEROUS_SCHEMES:
        yield checks.Error(
            f"{name} must be a URL like https://app.example.com/page#{{uid}}/{{token}} or myapp://page?uid={{uid}}"
            "&token={token}; javascript:, data:, file: and vbscript: URLs are refused.",
            id="config.E004",
        )
    elif scheme[1].lower() in ("http", "https"):
        page = url.partition("#")[0]
        if "{uid}" in page or "{token}" in page:
            yield checks.Warning(
                f"{name} should have {{uid}} and {{token}} after the #. Before it, they reach logs and other sites.",
                id="config.W002",
            )
        if scheme[1].lower() == "http" and not settings.DEBUG:
            yield checks.Warning(
                f"{name} should start with https://. Otherwise the link can be read in transit.", id="config.W003"
            )


@checks.register
def check_path(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Refuse a path of PUBLIC_URL that looks like one of the server's own: a proxy may strip it or pass it on."""
    first = (settings.FORCE_SCRIPT_NAME or "").strip("/").partition("/")[0]
    if first and first in OWN_PATHS:
        yield checks.Error(f"PUBLIC_URL needs a different path: the server itself uses /{first}.", id="config.E005")


@checks.register
def check_variables(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    for name in settings.UNKNOWN_VARIABLES:
        similar = get_close_matches(name, settings.KNOWN_VARIABLES, n=1)
        yield checks.Warning(
            f"The environment file sets {name}, but no setting has that name.",
            hint=f"Did you mean {similar[0]}?" if similar else ".env.example lists the variables.",
            id="config.W004",
        )


@checks.register(checks.Tags.security)
def check_mails_leave(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if settings.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend" and not settings.DEBUG:
        yield checks.Warning(
            "Emails, including their links, are written to the server's output and log instead of being sent.",
            hint="Set EMAIL_URL, for example to smtp+tls://user:password@host:587.",
            id="config.W001",
        )


@checks.register(checks.Tags.security)
def check_passkeys(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    if not settings.PASSKEYS:
        return
    if not settings.PASSKEY_RP_ID:
        yield checks.Warning(
            "Passkeys are off, because PUBLIC_URL contains an IP address and passkeys need a domain name.",
            hint="Use a name, such as http://localhost:8000, or set PASSKEY_RP_ID. PASSKEYS=off silences this warning.",
            id="config.W005",
        )
    elif is_address(settings.PASSKEY_RP_ID):
        yield checks.Error("PASSKEY_RP_ID must be a domain name, not an IP address.", id="config.E006")
    else:
        for origin in settings.PASSKEY_ORIGINS:
            if "://" in origin and not is_within(settings.PASSKEY_RP_ID, origin):
                yield checks.Error(
                    f"PASSKEY_RP_ID must be the host of {origin} or a parent domain, or browsers refuse passkeys.",
                    hint="PASSKEY_ORIGINS lists the pages that may use passkeys.",
                    id="config.E007",
                )
