"""What drf-spectacular can't see: the security schemes of the guards, and what the views say in their `operations`.

Importing this module registers both.
"""

from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerFieldExtension,
    OpenApiViewExtension,
)
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.utils import extend_schema_view
from rest_framework.views import APIView

from ..authentication import JWTAuthentication, LogoutAuthentication, ServiceAuthentication
from ..conf import conf
from ..http.fields import TokenField
from ..http.operations import Operation
from .describing import Schema, describe


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The access token in its header, for JWTAuthentication and what a project derives from it."""

    target_class = JWTAuthentication
    match_subclasses = True
    priority = -1  # after a project's own, and the one below
    name = "accessToken"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        scheme: Schema = build_bearer_security_scheme_object(conf.auth_header_name, conf.auth_header_types[0], "JWT")
        return scheme


class LogoutScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The refresh token in its cookie, and the access token as well."""

    target_class = LogoutAuthentication
    name = "refreshToken"

    def get_security_requirement(self, auto_schema: Any) -> dict[str, list[str]]:
        return {"accessToken": [], "refreshToken": []}

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {"type": "apiKey", "in": "cookie", "name": conf.cookie_name}


class ServiceScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ServiceAuthentication
    name = "service"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {"type": "http", "scheme": "basic"}


class ShownToken(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """A token, which Swagger UI would show as `string`, in answers and forms."""

    target_class = TokenField
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: str) -> Schema:
        return {"type": "string", "example": self.target.example}


class Described(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Every view that has `operations`: this package's and the project's."""

    target_class = APIView
    match_subclasses = True
    priority = -1  # after the project's own

    def view_replacement(self) -> type[APIView]:
        view: type[APIView] = self.target
        # A class that is derived from a view may take and answer something else.
        operations: dict[str, Operation] = vars(view).get("operations", {})
        if not operations:
            return view
        described = {name: describe(view, name, operation) for name, operation in operations.items()}
        return extend_schema_view(**described)(type(view.__name__, (view,), {}))
