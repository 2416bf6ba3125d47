"""The security schemes of the guards, for drf-spectacular. Importing this module registers them."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object

from ..authentication import JWTAuthentication, LogoutAuthentication, ServiceAuthentication
from ..conf import conf

Scheme = dict[str, Any]


class AccessTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The access token in its header, for JWTAuthentication and what a project derives from it."""

    target_class = JWTAuthentication
    match_subclasses = True
    priority = -1  # after those of a project, and the one below
    name = "accessToken"

    def get_security_definition(self, auto_schema: Any) -> Scheme:
        scheme: Scheme = build_bearer_security_scheme_object(conf.auth_header_name, conf.auth_header_types[0], "JWT")
        return scheme


class LogoutScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The refresh token in its cookie, and the access token as well."""

    target_class = LogoutAuthentication
    name = "refreshToken"

    def get_security_requirement(self, auto_schema: Any) -> dict[str, list[str]]:
        return {"accessToken": [], "refreshToken": []}

    def get_security_definition(self, auto_schema: Any) -> Scheme:
        return {"type": "apiKey", "in": "cookie", "name": conf.cookie_name}


class ServiceScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ServiceAuthentication
    name = "service"

    def get_security_definition(self, auto_schema: Any) -> Scheme:
        return {"type": "http", "scheme": "basic"}
