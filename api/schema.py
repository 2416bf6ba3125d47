"""The OpenAPI schema as a whole. What it says of an endpoint stands at the endpoint's view, as `operations`."""

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
    """The cookie of the pages is for the pages alone: programs see nothing of it."""

    target_class = PassAuthentication
    name: list[str] = []

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        return []

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        return []


_lock = Lock()


def schema() -> Schema:
    """Return the schema, which is made once a process; drf-spectacular's generator is not safe among threads."""
    with _lock:
        return _schema()


@cache
def _schema() -> Schema:
    with translation.override(settings.LANGUAGE_CODE):  # the first reader's language must not decide it
        made: Schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return made
