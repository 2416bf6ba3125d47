"""The OpenAPI schema as a whole. Each view describes its own endpoint, in `operations`."""

from functools import cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator

from tokens.contrib import spectacular  # noqa: F401 (registers what reads the views' `operations`)

from .browsing import PassAuthentication

Schema = dict[str, Any]

TAGS = {
    "Browsers": ("/auth/",),
    "Apps and services": ("/api/token/",),
    "The account": ("/auth/account/", "/auth/email/", "/auth/password", "/auth/reauthenticate"),
    "Two-factor authentication": ("/auth/second-factor",),
    "Passkeys": ("/auth/passkeys", "/auth/login/passkey", "/auth/reauthenticate/options", "/api/token/passkey/"),
    "The API": ("/api/",),
    "Staff": ("/api/users/",),
    "Other services": ("/.well-known/", "/auth/introspect", "/auth/revoke", "/auth/ended"),
    "Operation": ("/health/", "/api/schema/"),
}
"""What the pages of docs/reference are called, in their order, and how the paths of each begin."""


class PassScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The cookie of the pages, which is not for programs, so the schema doesn't show it."""

    target_class = PassAuthentication
    name: list[str] = []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        return []

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        return []


def tag(result: Schema, **kwargs: Any) -> Schema:
    """Group the calls as the reference does: each has the tag of the longest beginning of its path."""
    names = {beginning: name for name, beginnings in TAGS.items() for beginning in beginnings}
    for path, methods in result["paths"].items():
        for beginning in sorted(names, key=len):
            if path.startswith(beginning):
                for operation in methods.values():
                    operation["tags"] = [names[beginning]]
    return {**result, "tags": [{"name": name} for name in TAGS]}


_lock = Lock()


def schema() -> Schema:
    """Return the schema, made once for each process. drf-spectacular's generator is not thread-safe."""
    with _lock:
        return _schema()


@cache
def _schema() -> Schema:
    with translation.override(settings.LANGUAGE_CODE):  # don't cache the first reader's language
        made: Schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return made
