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


class PassScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The cookie of the pages, which is not for programs, so the schema doesn't show it."""

    target_class = PassAuthentication
    name: list[str] = []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        return []

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        return []


_lock = Lock()


def schema() -> Schema:
    """Return the schema, made once for each process. drf-spectacular's generator is not thread-safe."""
    with _lock:
        return _schema()


@cache
def _schema() -> Schema:
    with translation.override(settings.LANGUAGE_CODE):  # the first reader's language must not decide it
        made: Schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return made
