"""What drf-spectacular can't see: the security schemes of the guards, and the answers of the app's own views.

Importing this module registers both.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiViewExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view, inline_serializer
from rest_framework import serializers
from rest_framework.views import APIView

from .. import views
from ..authentication import JWTAuthentication, LogoutAuthentication, ServiceAuthentication
from ..conf import conf
from ..serializers import AfterSerializer, TokenSerializer

Scheme = dict[str, Any]

ACCESS: dict[str, serializers.Field[Any, Any, Any, Any]] = {
    "accessToken": serializers.CharField(),
    "tokenType": serializers.CharField(),
    "expiresIn": serializers.IntegerField(),
}
SIGNED_IN = inline_serializer("SignedIn", {**ACCESS, "user": serializers.DictField()})
REFRESHED = inline_serializer("Refreshed", ACCESS)

OPERATIONS: dict[Any, tuple[str, dict[str, Any]]] = {
    views.LoginView: ("post", {"responses": {200: SIGNED_IN}}),
    views.SecondStepView: ("post", {"responses": {200: SIGNED_IN}}),
    views.RefreshView: ("post", {"request": None, "responses": {200: REFRESHED}}),
    views.LogoutView: ("post", {"request": None, "responses": {204: None}}),
    views.LogoutAllView: ("post", {"request": None, "responses": {204: None}}),
    views.RevokeView: ("post", {"request": TokenSerializer, "responses": {200: None}}),
    views.IntrospectView: ("post", {"request": TokenSerializer, "responses": {200: OpenApiTypes.OBJECT}}),
    views.EndedView: ("get", {"parameters": [AfterSerializer], "responses": {200: OpenApiTypes.OBJECT}}),
    views.KeySetView: ("get", {"responses": {200: OpenApiTypes.OBJECT}}),
    views.MetadataView: ("get", {"responses": {200: OpenApiTypes.OBJECT}}),
}
"""The views that show too little of what they take and give: the method, and what is said of it."""


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


class Views(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    target_class = views.OwnTransactions
    match_subclasses = True
    priority = -1  # after those of a project

    def view_replacement(self) -> type[APIView]:
        view: type[APIView] = self.target
        if view not in OPERATIONS:
            return view
        method, told = OPERATIONS[view]
        return extend_schema_view(**{method: extend_schema(**told)})(type(view.__name__, (view,), {}))
