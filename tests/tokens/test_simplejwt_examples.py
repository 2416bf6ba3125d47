"""The examples of SimpleJWT's documentation, after the search and replace of a project that moves."""

from types import ModuleType
from typing import Any

import pytest
from django.urls import include, path
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.clients import App, claims_of
from tests.urls_tokens import urlpatterns as project
from tokens.exceptions import NotSupported
from tokens.models import Reason, Session
from tokens.tokens import AccessToken, RefreshToken


def run(example: str, **names: Any) -> dict[str, Any]:
    """Run the example with this package instead of SimpleJWT; return what it defines."""
    namespace = {"__name__": __name__, **names}
    exec(example.replace("rest_framework_simplejwt", "tokens"), namespace)
    return namespace


class Urls(ModuleType):
    """The `urlpatterns` of an example, in addition to the project's URLs."""

    def __init__(self, example: str, **names: Any) -> None:
        super().__init__("urls")
        own = run(example, path=path, **names)["urlpatterns"]
        self.urlpatterns = [path("example/", include(own)), *project]


# Getting started

ROUTES = """
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView, TokenVerifyView

urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view(), name="token_obtain_pair"),
    path("api/token/refresh/", TokenRefreshView.as_view(), name="token_refresh"),
    path("api/token/verify/", TokenVerifyView.as_view(), name="token_verify"),
    path("api/token/blacklist/", TokenBlacklistView.as_view(), name="token_blacklist"),
]
"""


def test_routes_answer_as_documented(ann: Any, settings: Settings) -> None:
    settings.ROOT_URLCONF = Urls(ROUTES)
    http = APIClient()

    def post(name: str, **body: str) -> Any:
        return http.post(f"/example/api/token/{name}", body, format="json")

    pair = post("", username="ann", password="correct horse battery staple").json()
    assert {*pair} == {"access", "refresh"}
    renewed = post("refresh/", refresh=pair["refresh"]).json()
    assert post("verify/", token=renewed["access"]).json() == {}
    assert post("verify/", token="made up").status_code == 401
    assert post("blacklist/", refresh=renewed["refresh"]).json() == {}
    assert post("refresh/", refresh=renewed["refresh"]).status_code == 401


# Creating tokens manually

MANUALLY = """
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.exceptions import AuthenticationFailed

def get_tokens_for_user(user):
    if not user.is_active:
      raise AuthenticationFailed("User is not active")

    refresh = RefreshToken.for_user(user)

    return {
        'refresh': str(refresh),
        'access': str(refresh.access_token),
    }
"""


def test_tokens_created_manually_have_a_session(ann: Any) -> None:
    example = run(MANUALLY)
    pair = example["get_tokens_for_user"](ann)

    assert RefreshToken(pair["refresh"]).session == AccessToken(pair["access"]).session == Session.objects.get()
    ann.is_active = False
    with pytest.raises(example["AuthenticationFailed"], match="User is not active"):
        example["get_tokens_for_user"](ann)


# Customizing token claims

CLAIMS = """
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.views import TokenObtainPairView

class MyTokenObtainPairSerializer(TokenObtainPairSerializer):
    @classmethod
    def get_token(cls, user):
        token = super().get_token(user)

        # Add custom claims
        token['name'] = user.name
        # ...

        return token

class MyTokenObtainPairView(TokenObtainPairView):
    serializer_class = MyTokenObtainPairSerializer

urlpatterns = [path("token", MyTokenObtainPairView.as_view())]
"""


@pytest.mark.parametrize("named_by", ["view", "setting"])
def test_customized_claims_are_in_both_tokens(
    ann: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    monkeypatch.setattr(type(ann), "name", "Ann of the Cape", raising=False)
    settings.ROOT_URLCONF = urls = Urls(CLAIMS)
    if named_by == "setting":
        view: Any = urls.urlpatterns[0].url_patterns[0].callback
        serializer = view.cls.serializer_class
        settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "TOKEN_OBTAIN_SERIALIZER": serializer}
    door = "/example/token" if named_by == "view" else "/api/token/"
    pair = APIClient().post(door, {"username": "ann", "password": "correct horse battery staple"}, format="json").json()

    assert claims_of(pair["access"])["name"] == claims_of(pair["refresh"])["name"] == "Ann of the Cape"


# Stateless user authentication

STATELESS = """
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import {guard}

class Greeting(APIView):
    authentication_classes = [{guard}]

    def get(self, request):
        return Response({{"id": request.user.id, "kind": type(request.user).__name__}})

urlpatterns = [path("greeting", Greeting.as_view())]
"""


@pytest.mark.parametrize("guard", ["JWTStatelessUserAuthentication", "JWTTokenUserAuthentication"])
def test_stateless_user_is_a_token_user(app: App, ann: Any, settings: Settings, guard: str) -> None:
    settings.ROOT_URLCONF = Urls(STATELESS.format(guard=guard))
    response = APIClient().get("/example/greeting", HTTP_AUTHORIZATION=f"Bearer {app.access}")

    assert response.json() == {"id": str(ann.pk), "kind": "TokenUser"}


# Token types

SLIDING = """
from rest_framework_simplejwt.views import (
    TokenObtainSlidingView,
    TokenRefreshSlidingView,
)

urlpatterns = [path('api/token/', TokenObtainSlidingView.as_view(), name='token_obtain')]
"""


def test_sliding_tokens_are_refused_with_a_hint() -> None:
    with pytest.raises(NotSupported, match="Use TokenObtainPairView and TokenRefreshView"):
        run(SLIDING, path=path)


# Blacklist app

BLACKLIST = """
from rest_framework_simplejwt.tokens import RefreshToken

token = RefreshToken(base64_encoded_token_string)
token.blacklist()
"""


def test_blacklisting_a_token_ends_its_session(app: App) -> None:
    run(BLACKLIST, base64_encoded_token_string=app.refresh_token)

    assert Session.objects.get().revoked_reason == Reason.LOGOUT


# drf-yasg, whose decorator is any that wraps `post`

DECORATED = """
from rest_framework_simplejwt.views import TokenObtainPairView

class DecoratedTokenObtainPairView(TokenObtainPairView):
    @swagger_auto_schema(responses={200: None})
    def post(self, request, *args, **kwargs):
        return super().post(request, *args, **kwargs)

urlpatterns = [path("token", DecoratedTokenObtainPairView.as_view())]
"""


def test_decorated_view_signs_in(ann: Any, settings: Settings) -> None:
    settings.ROOT_URLCONF = Urls(DECORATED, swagger_auto_schema=lambda **_: lambda method: method)
    body = {"username": "ann", "password": "correct horse battery staple"}

    assert APIClient().post("/example/token", body, format="json").status_code == 200
