"""The security schemes, in the schema of a project of its own."""

from typing import Any

import pytest
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from pytest_django import Settings
from rest_framework.authentication import BasicAuthentication
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from tokens import views
from tokens.authentication import (
    JWTAuthentication,
    LogoutAuthentication,
    ServiceAuthentication,
    StatelessJWTAuthentication,
)
from tokens.contrib import spectacular

ACCESS = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class OfTheProject(JWTAuthentication):
    pass


def schema_of(*guards: type[BasicAuthentication | JWTAuthentication]) -> Any:
    class Guarded(GenericAPIView[Any]):
        schema = AutoSchema()
        authentication_classes: Any = guards
        permission_classes: Any = (IsAuthenticated,)
        serializer_class = Serializer

        def get(self, request: Request) -> Response:
            return Response({})

    generator = SchemaGenerator(patterns=[path("guarded", Guarded.as_view())])  # type: ignore[no-untyped-call]
    return generator.get_schema(public=True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("guard", [JWTAuthentication, StatelessJWTAuthentication, OfTheProject])
def test_access_token_is_a_bearer_token(guard: type[JWTAuthentication]) -> None:
    schema = schema_of(guard)

    assert schema["components"]["securitySchemes"] == {spectacular.AccessTokenScheme.name: ACCESS}
    assert schema["paths"]["/guarded"]["get"]["security"] == [{"accessToken": []}]


def test_access_token_stands_in_the_header_that_the_settings_name(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUTH_HEADER_TYPES": ["JWT"], "AUTH_HEADER_NAME": "HTTP_X_TOKEN"}

    scheme = schema_of(JWTAuthentication)["components"]["securitySchemes"]["accessToken"]

    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", "X-token")
    assert '"JWT"' in str(scheme["description"])


def test_logout_takes_both_tokens(settings: Settings) -> None:
    settings.TOKENS_COOKIE_NAME = "rt"

    schema = schema_of(JWTAuthentication, LogoutAuthentication)

    assert schema["components"]["securitySchemes"] == {
        "accessToken": ACCESS,
        "refreshToken": {"type": "apiKey", "in": "cookie", "name": "rt"},
    }
    assert {"accessToken": [], "refreshToken": []} in schema["paths"]["/guarded"]["get"]["security"]


def test_services_have_credentials() -> None:
    assert schema_of(ServiceAuthentication)["components"]["securitySchemes"] == {
        "service": {"type": "http", "scheme": "basic"}
    }


@pytest.mark.parametrize("view", spectacular.OPERATIONS)
def test_views_that_show_too_little_are_annotated(view: Any) -> None:
    method, _ = spectacular.OPERATIONS[view]

    annotated = spectacular.Views(view.as_view()).view_replacement()  # type: ignore[no-untyped-call]

    assert issubclass(annotated, view)
    assert annotated.__name__ == view.__name__
    assert "schema" in getattr(annotated, method).kwargs
    assert not hasattr(getattr(view, method), "kwargs")


def test_views_that_show_enough_are_left_alone() -> None:
    class OfTheProject(views.LoginView):
        pass

    for view in (views.TokenObtainPairView, OfTheProject):
        assert spectacular.Views(view.as_view()).view_replacement() is view  # type: ignore[no-untyped-call]
