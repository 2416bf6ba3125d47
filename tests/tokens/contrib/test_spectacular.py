"""The security schemes, in the schema of another project."""

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
from rest_framework.serializers import CharField, Serializer

from tokens import urls, views
from tokens.authentication import (
    JWTAuthentication,
    LogoutAuthentication,
    ServiceAuthentication,
    StatelessJWTAuthentication,
)
from tokens.contrib import spectacular
from tokens.serializers import TokenObtainPairSerializer

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


def schema_of_the_package(settings: Settings) -> Any:
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    return SchemaGenerator(patterns=urls.urlpatterns).get_schema(public=True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("guard", [JWTAuthentication, StatelessJWTAuthentication, OfTheProject])
def test_access_token_is_a_bearer_token(guard: type[JWTAuthentication]) -> None:
    schema = schema_of(guard)

    assert schema["components"]["securitySchemes"] == {spectacular.AccessTokenScheme.name: ACCESS}
    assert schema["paths"]["/guarded"]["get"]["security"] == [{"accessToken": []}]


def test_access_token_is_in_the_configured_header(settings: Settings) -> None:
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


def test_services_use_basic_credentials() -> None:
    assert schema_of(ServiceAuthentication)["components"]["securitySchemes"] == {
        "service": {"type": "http", "scheme": "basic"}
    }


def test_views_of_this_package_are_described(settings: Settings) -> None:
    schema = schema_of_the_package(settings)

    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    assert len(operations) == len(urls.urlpatterns)
    assert all(operation["summary"] for operation in operations)
    login = schema["paths"]["/auth/login"]["post"]
    assert login["operationId"] == "login"
    assert list(login["responses"]) == ["200", "400", "401", "403", "413", "415", "429", "503"]
    assert list(login["responses"]["200"]["headers"]) == ["Set-Cookie", "Cache-Control", "DPoP-Nonce"]


def test_tokens_are_shown_in_answers_and_forms(settings: Settings) -> None:
    schema = schema_of_the_package(settings)

    answer, form = (schema["components"]["schemas"][name]["properties"] for name in ("SignedIn", "Token"))
    assert answer["accessToken"] == {"type": "string", "example": "eyJ…"}
    assert form == {
        "token": {"type": "string", "example": "eyJ…"},
        "token_type_hint": {"type": "string", "example": "refresh_token"},
    }


class ForTenants(TokenObtainPairSerializer):
    tenant = CharField()
    example = {"username": "ada", "password": "the analytical engine", "tenant": "1"}


def test_body_is_shown_as_the_serializer_of_the_project_says(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"TOKEN_OBTAIN_SERIALIZER": f"{__name__}.ForTenants"}

    schema = schema_of_the_package(settings)

    body = schema["paths"]["/api/token/"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"] == {"Example": {"value": ForTenants.example}}


def test_derived_view_inherits_no_description() -> None:
    class OfTheProject(views.LoginView):
        pass

    assert spectacular.Described(OfTheProject.as_view()).view_replacement() is OfTheProject  # type: ignore[no-untyped-call]


def test_describing_does_not_change_the_view() -> None:
    described: Any = spectacular.Described(views.LoginView.as_view()).view_replacement()  # type: ignore[no-untyped-call]

    assert issubclass(described, views.LoginView)
    assert "schema" in described.post.kwargs
    assert not hasattr(views.LoginView.post, "kwargs")
