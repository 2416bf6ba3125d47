"""Code written for SimpleJWT, with `rest_framework_simplejwt` replaced by this package's name.

The examples of its documentation are here in the order of its pages. Using an unsupported part raises an exception that
says so.
"""

import importlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from types import ModuleType
from typing import Any

import pytest
import time_machine
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest
from django.urls import path
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework import parsers, permissions
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.fields import CharField
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken as SimpleJWTAccessToken

from tests.clients import PASSWORD, App, Browser, claims_of
from tests.racing import just_before
from tokens import models, serializers, views
from tokens.authentication import JWTAuthentication, JWTStatelessUserAuthentication
from tokens.domain import signing_in
from tokens.domain.client import UNKNOWN
from tokens.domain.signing_in import Terms
from tokens.exceptions import AuthenticationFailed, InvalidToken, NoActiveAccount, NotSupported, TokenError
from tokens.http.parsers import JSONParser
from tokens.models import SecurityEvent, Session, TokenUser
from tokens.serializers import (
    TokenBlacklistSerializer,
    TokenObtainPairSerializer,
    TokenObtainSerializer,
    TokenRefreshSerializer,
)
from tokens.tokens import AccessToken, RefreshToken, SlidingToken, Token, UntypedToken
from tokens.views import TokenObtainPairView, TokenRefreshView

pytestmark = pytest.mark.django_db

MODULES = ("tokens", "views", "serializers", "authentication", "exceptions")
POST = APIRequestFactory().post
CREDENTIALS = {"username": "ann", "password": PASSWORD}


def as_set(settings: Settings) -> dict[str, Any]:
    """Return the project's settings, including the issuer."""
    return {**getattr(settings, "SIMPLE_JWT", {})}


def theirs(name: str) -> ModuleType:
    return importlib.import_module(f"rest_framework_simplejwt.{name}")


def ask(view: Any, **body: Any) -> Any:
    return view(POST("/", body, format="json"))


def refreshed(token: str) -> Any:
    return APIClient().post("/api/token/refresh/", {"refresh": token}, format="json")


@api_view()
@permission_classes([permissions.AllowAny])
def whoami(request: Request) -> Response:
    return Response(str(request.user))


# Names


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists(name: str) -> None:
    ours, modules = importlib.import_module(f"tokens.{name}"), {f"rest_framework_simplejwt.{name}" for name in MODULES}
    public = {
        key
        for key, value in vars(theirs(name)).items()
        if not key.startswith("_")
        # Names that are defined there or in another of the modules, or are neither a class nor a function.
        and getattr(value, "__module__", None) in modules
    }
    public |= {key for key in vars(theirs(name)) if key.startswith("token_")}
    assert len(public) > 5
    assert [key for key in sorted(public - {"T"}) if not hasattr(ours, key)] == []
    assert not hasattr(ours, "api_settings")


def test_token_user_exists() -> None:
    assert models.TokenUser.__mro__[1] is theirs("models").TokenUser


def test_header_types_follow_the_settings(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"AUTH_HEADER_TYPES": "JWT"}
    ours: Any = importlib.import_module("tokens.authentication")
    assert (("JWT",), {b"JWT"}) == (ours.AUTH_HEADER_TYPES, ours.AUTH_HEADER_TYPE_BYTES)


# Getting started


class Urls(ModuleType):
    urlpatterns = [
        path("api/token/", TokenObtainPairView.as_view(), name="token_obtain_pair"),
        path("api/token/refresh/", TokenRefreshView.as_view(), name="token_refresh"),
        path("api/token/verify/", views.TokenVerifyView.as_view(), name="token_verify"),
        path("api/token/blacklist/", views.TokenBlacklistView.as_view(), name="token_blacklist"),
        path("whoami/", whoami),
    ]


@pytest.fixture
def urls(settings: Settings) -> None:
    settings.ROOT_URLCONF = Urls("urls")


@pytest.mark.usefixtures("urls", "ann")
def test_views_work_under_the_projects_urls() -> None:
    app = App()
    assert app.login().status_code == 200
    headers = {"authorization": f"Bearer {app.access}"}
    assert app.http.get("/whoami/", headers=headers).data == "ann"
    assert app.verify(app.access).status_code == 200
    assert app.refresh().status_code == 200
    assert app.blacklist(app.refresh_token).data == {}
    assert app.http.get("/whoami/", headers=headers).json()["code"] == "token_revoked"


@pytest.mark.parametrize("name", ["token_obtain_pair", "token_refresh", "token_verify", "token_blacklist"])
def test_function_views_work(name: str, app: App) -> None:
    body = {
        "token_obtain_pair": CREDENTIALS,
        "token_verify": {"token": app.access},
    }.get(name, {"refresh": app.refresh_token})
    assert ask(getattr(views, name), **body).status_code == 200


class LoudParser(parsers.JSONParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        return {name.lower(): value for name, value in super().parse(*args, **kwargs).items()}


class LoudRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        return super().render({name.upper(): value for name, value in data.items()}, *args, **kwargs)


class LoudOwnParser(JSONParser):
    """Derived from ours."""


@pytest.mark.parametrize("parser", [LoudParser, LoudOwnParser])
def test_views_read_and_write_as_the_project_does(ann: Any, monkeypatch: pytest.MonkeyPatch, parser: Any) -> None:
    monkeypatch.setattr(APIView, "parser_classes", [parser])
    monkeypatch.setattr(APIView, "renderer_classes", [LoudRenderer])
    loud = {name.upper(): value for name, value in CREDENTIALS.items()}
    answer = ask(TokenObtainPairView.as_view(), **(loud if parser is LoudParser else CREDENTIALS))
    assert (answer.status_code, sorted(json.loads(answer.rendered_content))) == (200, ["ACCESS", "REFRESH"])
    deep = POST("/", "[" * 100_000, content_type="application/json")
    assert TokenObtainPairView.as_view()(deep).status_code == 400

    quiet = TokenObtainPairView.as_view(parser_classes=[JSONParser], renderer_classes=[JSONRenderer])
    answer = ask(quiet, **CREDENTIALS)
    assert (answer.status_code, sorted(json.loads(answer.rendered_content))) == (200, ["access", "refresh"])


def test_spaces_around_a_username_are_ignored(ann: Any) -> None:
    assert App().login(" ann ").status_code == 200
    assert Browser().login(" ann ").status_code == 200


# Customizing token claims


class NamedSerializer(TokenObtainPairSerializer):
    @classmethod
    def get_token(cls, user: Any) -> Any:
        token = super().get_token(user)
        token["name"] = f"Lady {user.get_username()}"
        token["is_staff"] = token["username"] = "mine"
        return token


class NamedView(TokenObtainPairView):
    serializer_class = NamedSerializer


def test_claims_of_get_token_are_in_every_token_of_the_session(ann: Any) -> None:
    pair = ask(NamedView.as_view(), **CREDENTIALS).data
    for _ in range(3):
        access, refresh = claims_of(pair["access"]), claims_of(pair["refresh"])
        assert access["name"] == refresh["name"] == "Lady ann"
        assert (access["is_staff"], access["username"]) == (False, "ann")
        assert refresh["is_staff"] == "mine"
        pair = refreshed(pair["refresh"]).data
    assert Session.objects.count() == 1


@pytest.mark.parametrize("named", [NamedSerializer, f"{__name__}.NamedSerializer"])
def test_claims_of_the_configured_serializer_are_in_cookie_logins_too(settings: Settings, ann: Any, named: Any) -> None:
    settings.SIMPLE_JWT = {"TOKEN_OBTAIN_SERIALIZER": named}
    app, browser = App(), Browser()
    app.login()
    browser.login()
    browser.refresh()
    assert {claims_of(token)["name"] for token in (app.access, browser.access)} == {"Lady ann"}


def test_simplejwts_default_serializer_paths_mean_ours(settings: Settings, app: App) -> None:
    settings.SIMPLE_JWT = as_set(settings) | {
        name: value for name, value in api_settings.defaults.items() if isinstance(value, str) and "SERIALIZER" in name
    }
    assert app.refresh().status_code == 200
    assert app.verify(app.access).status_code == 200
    assert app.blacklist(app.refresh_token).status_code == 200


def test_view_may_name_its_serializer_by_path(ann: Any) -> None:
    class View(TokenObtainPairView):
        _serializer_class = f"{__name__}.NamedSerializer"

    assert claims_of(ask(View.as_view(), **CREDENTIALS).data["access"])["name"] == "Lady ann"


def test_view_without_a_serializer_is_a_clear_error(ann: Any) -> None:
    class View(views.TokenViewBase):
        pass

    with pytest.raises(ImportError, match="Could not import serializer ''"):
        ask(View.as_view(), **CREDENTIALS)


def test_no_session_starts_if_get_token_refuses(ann: Any) -> None:
    class Refusing(TokenObtainPairSerializer):
        @classmethod
        def get_token(cls, user: Any) -> Any:
            super().get_token(user)
            raise AuthenticationFailed("Not on Sundays", "sunday")

    answer = ask(TokenObtainPairView.as_view(serializer_class=Refusing), **CREDENTIALS)
    assert (answer.status_code, answer.data) == (401, {"detail": "Not on Sundays", "code": "sunday"})
    assert not Session.objects.exists()


def test_get_token_called_once_more_starts_no_second_session(ann: Any) -> None:
    class Twice(NamedSerializer):
        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            answer = super().validate(attrs)
            refresh = self.get_token(self.user)
            refresh["later"] = True
            return {**answer, "refresh": str(refresh), "access": str(refresh.access_token), "name": self.user.username}

    answer = ask(TokenObtainPairView.as_view(serializer_class=Twice), **CREDENTIALS).data
    assert claims_of(answer["access"])["later"]
    assert claims_of(refreshed(answer["refresh"]).data["access"])["later"]
    assert answer["name"] == "ann"
    assert Session.objects.count() == 1


def test_serializer_with_its_own_validation_starts_one_session(ann: Any) -> None:
    class ByCard(TokenObtainPairSerializer):
        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            assert self.get_token(ann)["sid"] == self.get_token(ann)["sid"]
            refresh = self.get_token(ann)
            return {"refresh": str(refresh), "access": str(refresh.access_token)}

    request = POST("/", CREDENTIALS, format="json", HTTP_USER_AGENT="card", REMOTE_ADDR="192.0.2.7")
    answer = TokenObtainPairView.as_view(serializer_class=ByCard)(request).data
    assert refreshed(answer["refresh"]).status_code == 200
    assert SecurityEvent.objects.filter(kind="login").values_list("ip_address", "user_agent").get() == (
        "192.0.2.7",
        "card",
    )


def test_token_for_another_user_belongs_to_their_session(ann: Any) -> None:
    bob = type(ann)._default_manager.create_user("bob", email="bob@example.com", password=PASSWORD)

    class WithFriend(TokenObtainPairSerializer):
        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            return {**super().validate(attrs), "friend": str(RefreshToken.for_user(bob))}

    answer = ask(TokenObtainPairView.as_view(serializer_class=WithFriend), **CREDENTIALS).data
    subjects = [claims_of(answer[name])["sub"] for name in ("refresh", "friend")]
    assert subjects == [str(ann.pk), str(bob.pk)]


def test_obtain_serializer_authenticates_and_get_token_starts_the_session(ann: Any) -> None:
    class Bare(TokenObtainSerializer):
        def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
            data: dict[str, Any] = super().validate(attrs)
            assert not Session.objects.exists()
            return {**data, "refresh": str(self.get_token(self.user))}

    view = views.TokenViewBase.as_view(serializer_class=Bare)
    assert refreshed(ask(view, **CREDENTIALS).data["refresh"]).status_code == 200
    answer = ask(view, username="ann", password="wrong")
    assert (answer.status_code, answer.data["code"]) == (401, "no_active_account")
    assert answer.data["detail"] == "No active account found with the given credentials"


def test_get_token_returning_another_token_is_a_clear_error(ann: Any) -> None:
    class Other(TokenObtainPairSerializer):
        token_class = AccessToken

    with pytest.raises(TypeError, match=r"RefreshToken\.for_user.*AccessToken"):
        ask(TokenObtainPairView.as_view(serializer_class=Other), **CREDENTIALS)
    assert Session.objects.filter(user=ann).count() <= 1


def test_token_of_an_unstarted_session_cannot_be_written(ann: Any) -> None:
    class Eager(TokenObtainPairSerializer):
        @classmethod
        def get_token(cls, user: Any) -> Any:
            return str(super().get_token(user))

    with pytest.raises(TypeError, match="when get_token returns"):
        ask(TokenObtainPairView.as_view(serializer_class=Eager), **CREDENTIALS)
    assert not Session.objects.exists()


# Claims


def test_claims_can_be_set_until_the_token_is_written(
    ann: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    refresh = RefreshToken.for_user(ann)
    refresh["color"], refresh["size"] = "red", 3
    del refresh["size"]
    with django_assert_num_queries(1):
        access = refresh.access_token
        str(refresh)
    assert (refresh["color"], access["color"], "size" in access) == ("red", "red", False)
    assert claims_of(refreshed(str(refresh)).data["access"])["color"] == "red"
    for token in (refresh, RefreshToken.of(Session.objects.get())):
        with pytest.raises(ValueError, match="color can't be set anymore"):
            token["color"] = "blue"
        with pytest.raises(ValueError, match="color can't be set anymore"):
            del token["color"]


@pytest.mark.parametrize(
    "claim",
    "iss sub aud client_id sid jti iat exp auth_time generation token_type amr cnf".split(),  # noqa: SIM905 (as a sentence)
)
def test_reserved_claims_cannot_be_set(ann: Any, claim: str) -> None:
    refresh = RefreshToken.for_user(ann)
    before = dict(refresh.payload)
    with pytest.raises(ValueError, match=f"claim {claim} can't be set"):
        refresh[claim] = "mine"
    with pytest.raises(ValueError, match=f"claim {claim} can't be set"):
        del refresh[claim]
    assert refresh.payload == before


@pytest.mark.parametrize(("method", "claim"), [("set_jti", "jti"), ("set_exp", "exp"), ("set_iat", "iat")])
def test_methods_setting_reserved_claims_are_refused(ann: Any, method: str, claim: str) -> None:
    with pytest.raises(ValueError, match=f"claim {claim} can't be set"):
        getattr(RefreshToken.for_user(ann), method)()


def test_claims_have_at_most_1500_bytes(ann: Any) -> None:
    refresh = RefreshToken.for_user(ann)
    most = 1500 - len('{"x":""}')
    refresh["x"] = "a" * most
    with pytest.raises(ValueError, match="1501 bytes; the maximum is 1500"):
        refresh["x"] = "a" * (most + 1)
    with pytest.raises(ValueError, match="the maximum is 1500"):
        refresh["x"] = "é" * (most // 5)  # \u00e9
    access = claims_of(str(refresh.access_token))
    assert access["x"] == "a" * most
    assert RefreshToken(str(refresh))["x"] == "a" * most


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError), ({1, 2}, TypeError)])
def test_claim_that_is_not_json_is_refused_on_assignment(ann: Any, value: Any, error: type[Exception]) -> None:
    refresh = RefreshToken.for_user(ann)
    with pytest.raises(error):
        refresh["x"] = value
    assert "x" not in refresh.access_token


@pytest.mark.parametrize("encoder", [DjangoJSONEncoder, "django.core.serializers.json.DjangoJSONEncoder"])
def test_json_encoder_is_applied_once(settings: Settings, ann: Any, encoder: Any) -> None:
    settings.SIMPLE_JWT = {"JSON_ENCODER": encoder}
    refresh = RefreshToken.for_user(ann)
    refresh["price"] = Decimal("9.50")
    text, access = str(refresh), refresh.access_token
    access["cost"] = Decimal("9.25")
    assert claims_of(str(access))["cost"] == "9.25"
    del settings.SIMPLE_JWT["JSON_ENCODER"]
    assert str(RefreshToken.of(Session.objects.get())) == text
    assert claims_of(refreshed(text).data["access"])["price"] == "9.50"


def test_claims_of_a_session_that_has_ended_are_not_kept(ann: Any) -> None:
    refresh = RefreshToken.for_user(ann)
    refresh["x"] = 1
    refresh.blacklist()
    with pytest.raises(TokenError):
        str(refresh)
    assert Session.objects.get().claims == ""


def test_user_id_claim_is_set_beside_sub(settings: Settings, ann: Any) -> None:
    settings.SIMPLE_JWT = {"USER_ID_CLAIM": "user_id"}
    app = App()
    app.login()
    assert {claims_of(token)["user_id"] for token in (app.access, app.refresh_token)} == {str(ann.pk)}
    settings.SIMPLE_JWT = {"USER_ID_CLAIM": "user", "USER_ID_FIELD": "username"}
    app.refresh()
    assert (claims_of(app.access)["user"], claims_of(app.access)["sub"]) == ("ann", str(ann.pk))


# Creating tokens manually


def test_tokens_are_created_manually(ann: Any) -> None:
    def get_tokens_for_user(user: Any) -> dict[str, str]:
        if not user.is_active:
            raise AuthenticationFailed("User is not active")

        refresh = RefreshToken.for_user(user)

        return {
            "refresh": str(refresh),
            "access": str(refresh.access_token),
        }

    assert refreshed(get_tokens_for_user(ann)["refresh"]).status_code == 200
    ann.is_active = False
    with pytest.raises(AuthenticationFailed):
        get_tokens_for_user(ann)


def test_token_subclasses_keep_their_changes(ann: Any) -> None:
    class Short(AccessToken):
        lifetime = timedelta(seconds=30)

    class Mine(RefreshToken):
        access_token_class = Short

        @classmethod
        def for_user(cls, user: Any) -> Any:  # type: ignore[override]
            token = super().for_user(user)
            token["mine"] = True
            return token

    class Serializer(TokenObtainPairSerializer):
        token_class = Mine

    answer = ask(TokenObtainPairView.as_view(serializer_class=Serializer), **CREDENTIALS).data
    access = AccessToken(answer["access"])
    assert (access["mine"], access.expires_in) == (True, 30)
    assert RefreshToken(answer["refresh"])["mine"] is True
    with pytest.raises(NotSupported, match="REFRESH_TOKEN_LIFETIME"):
        type("Long", (RefreshToken,), {"lifetime": timedelta(days=400)})


def test_lifetimes_of_token_classes_are_respected(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIME": timedelta(seconds=7), "REFRESH_TOKEN_LIFETIME": timedelta(days=3)}
    assert (AccessToken.lifetime, RefreshToken.lifetime) == (timedelta(seconds=7), timedelta(days=3))


def test_other_token_types_are_refused_with_a_hint(ann: Any) -> None:
    class EmailToken(Token):
        token_type = "email"
        lifetime = timedelta(hours=1)

    for use in (
        EmailToken,
        lambda: EmailToken.for_user(ann),
        lambda: EmailToken("a.b.c"),
        lambda: EmailToken.claims("a.b.c"),
    ):
        with pytest.raises(NotSupported, match=r"django\.core\.signing"):
            use()


def test_token_backend_matches_the_kind(app: App) -> None:
    token = AccessToken(app.access)
    assert token.token_backend.decode(app.access) == token.payload == token.get_token_backend().decode(app.access)


# Token types


@pytest.mark.parametrize(
    "use",
    [
        SlidingToken,
        lambda: SlidingToken("a.b.c"),
        lambda: SlidingToken.for_user(None),
        serializers.TokenObtainSlidingSerializer,
        serializers.TokenRefreshSlidingSerializer,
        views.TokenObtainSlidingView.as_view,
        views.TokenRefreshSlidingView.as_view,
        lambda: views.token_obtain_sliding(HttpRequest()),
        lambda: views.token_refresh_sliding(HttpRequest()),
    ],
)
def test_sliding_tokens_are_refused_with_a_hint(use: Callable[[], Any]) -> None:
    with pytest.raises(NotSupported, match="TokenObtainPairView"):
        use()


def test_untyped_token_accepts_either_kind(app: App) -> None:
    assert UntypedToken(app.access)["token_type"] == "access"
    assert UntypedToken(app.refresh_token.encode())["token_type"] == "refresh"
    assert str(UntypedToken(app.refresh_token)) == app.refresh_token
    app.blacklist(app.refresh_token)
    for text in (app.access, app.refresh_token, "x", None):
        with pytest.raises((TokenError, TypeError)):
            UntypedToken(text)


# Blacklist app


def test_token_is_blacklisted(app: App) -> None:
    token = RefreshToken(app.refresh_token)
    token.blacklist()
    with pytest.raises(TokenError):
        token.check_blacklist()
    assert token.outstand() is None


# Stateless user authentication


def test_stateless_authentication_reads_no_row(app: App, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {app.access}")
    with django_assert_num_queries(0):
        authenticated = JWTStatelessUserAuthentication().authenticate(Request(request))
    assert authenticated
    user, token = authenticated
    assert isinstance(user, TokenUser)
    assert (user.username, user.id, token["sub"]) == ("ann", token["sub"], user.pk)


class Tenant(TokenUser):
    @property
    def tenant(self) -> str:
        return f"of {self.username}"


def test_token_user_class_is_configurable(settings: Settings, app: App) -> None:
    settings.SIMPLE_JWT = as_set(settings) | {"TOKEN_USER_CLASS": f"{__name__}.Tenant"}
    guard = JWTStatelessUserAuthentication()
    assert guard.get_user(guard.get_validated_token(app.access)).tenant == "of ann"
    for forged in (AccessToken(app.access, verify=False), RefreshToken(app.refresh_token)):
        with pytest.raises(InvalidToken):
            guard.get_user(forged)


# The steps of the guard


class CookieAuthentication(JWTAuthentication):
    """As in many recipes: the header first, or else a cookie."""

    def authenticate(self, request: Request) -> Any:
        header = self.get_header(request)
        raw_token = request.COOKIES.get("access") if header is None else self.get_raw_token(header)
        if raw_token is None:
            return None
        validated_token = self.get_validated_token(raw_token)
        return self.get_user(validated_token), validated_token


def test_guard_steps_work_for_a_cookie_guard(app: App, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    by_cookie = APIRequestFactory().get("/")
    by_cookie.COOKIES["access"] = app.access
    by_header = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {app.access}")
    for request in (by_cookie, by_header):
        with django_assert_num_queries(1):
            user, token = CookieAuthentication().authenticate(Request(request))
        assert (user.get_username(), token.session.user) == ("ann", user)
    assert CookieAuthentication().authenticate(Request(APIRequestFactory().get("/"))) is None
    app.blacklist(app.refresh_token)
    with pytest.raises(InvalidToken) as refused:
        CookieAuthentication().authenticate(Request(by_cookie))
    detail: Any = refused.value.detail
    assert detail == {"detail": "The session has ended. Sign in again.", "code": "token_revoked"}


def test_overridden_guard_step_is_used(app: App) -> None:
    class Guard(JWTAuthentication):
        def get_header(self, request: Request) -> bytes:
            return f"Bearer {request.META['HTTP_X_MINE']}".encode()

        def get_user(self, validated_token: Any) -> Any:
            return f"{super().get_user(validated_token)}!"

    request = APIRequestFactory().get("/", HTTP_X_MINE=app.access)
    assert (Guard().authenticate(Request(request)) or [])[0] == "ann!"


@pytest.mark.parametrize(
    ("header", "token"),
    [(b"Bearer a.b.c", b"a.b.c"), (b"bearer  a.b.c ", b"a.b.c"), (b"Basic a.b.c", None), (b"", None)],
)
def test_raw_token_is_bytes(header: bytes, token: bytes | None) -> None:
    assert JWTAuthentication().get_raw_token(header) == token


@pytest.mark.parametrize("header", [b"Bearer", b"Bearer ", b"Bearer a.b.c d.e.f"])
def test_header_without_exactly_one_token_is_refused(header: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        JWTAuthentication().get_raw_token(header)


def test_token_user_falls_back_to_the_configured_claim(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"USER_ID_CLAIM": "user_id"}
    user = TokenUser(AccessToken.from_claims({"user_id": 42}))
    assert (user.id, user.pk, user.groups, user.username) == ("42", "42", [], "")


def test_token_user_accepts_simplejwts_claim() -> None:
    user, same, other = (TokenUser(AccessToken.from_claims({"user_id": pk})) for pk in (42, 42, 43))
    assert (user.id, user.pk, str(user)) == ("42", "42", "TokenUser 42")
    assert user == same != other
    assert hash(user) == hash(same) != hash(other)


@pytest.mark.parametrize("header", ["Bearer \u2603", "Bearer \udcff", b"Bearer \xff"])
def test_undecodable_header_is_refused(header: Any) -> None:
    with pytest.raises(InvalidToken):
        JWTAuthentication().authenticate(Request(APIRequestFactory().get("/", HTTP_AUTHORIZATION=header)))


def test_header_name_and_types_follow_the_settings(settings: Settings, app: App) -> None:
    settings.SIMPLE_JWT = as_set(settings) | {
        "AUTH_HEADER_NAME": "HTTP_X_ACCESS_TOKEN",
        "AUTH_HEADER_TYPES": ("JWT", "Token"),
    }
    request = APIRequestFactory().get("/", HTTP_X_ACCESS_TOKEN=f"Token {app.access}")
    assert JWTAuthentication().authenticate(Request(request))
    assert APIClient().post("/auth/logout-all").headers["WWW-Authenticate"].startswith('JWT realm="api"')


def test_get_user_refuses_an_unverified_token(app: App) -> None:
    theirs_of_ann = SimpleJWTAccessToken()
    theirs_of_ann.payload |= claims_of(app.access)
    guard = JWTAuthentication()
    for token in (
        AccessToken(app.access, verify=False),
        UntypedToken(app.access, verify=False),
        RefreshToken(app.refresh_token),
        theirs_of_ann,
        claims_of(app.access),
    ):
        with pytest.raises(InvalidToken):
            guard.get_user(token)
    assert guard.get_user(UntypedToken(app.access)).get_username() == "ann"
    for text in (str(theirs_of_ann), app.refresh_token):
        with pytest.raises(InvalidToken):
            guard.get_validated_token(text)


def test_get_user_refuses_a_bound_token_without_its_proof(ann: Any) -> None:
    bound = str(AccessToken.for_user(ann, jkt="x" * 43))
    for kind in (AccessToken, UntypedToken):
        with pytest.raises(InvalidToken):
            JWTAuthentication().get_user(kind(bound))


# Settings


class Rule:
    allows = True


def rule(user: Any) -> bool:
    return Rule.allows and user.get_username() == "ann"


@pytest.mark.parametrize("named", [rule, f"{__name__}.rule"])
def test_rule_decides_who_may_sign_in_and_refresh(
    settings: Settings, ann: Any, monkeypatch: pytest.MonkeyPatch, named: Any
) -> None:
    settings.SIMPLE_JWT = {"USER_AUTHENTICATION_RULE": named}
    app, browser = App(), Browser()
    assert (app.login().status_code, browser.login().status_code) == (200, 200)
    monkeypatch.setattr(Rule, "allows", False)
    assert App().login().data["code"] == "no_active_account"
    assert Browser().login().data["code"] == "invalid_credentials"
    before = list(Session.objects.order_by("pk").values())
    assert (app.refresh().status_code, browser.refresh().status_code) == (401, 401)
    assert list(Session.objects.order_by("pk").values()) == before


def test_rule_applies_to_every_door(settings: Settings, ann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SIMPLE_JWT = {"USER_AUTHENTICATION_RULE": rule}
    assert signing_in.start(ann, UNKNOWN, Terms()).user == ann
    monkeypatch.setattr(Rule, "allows", False)
    with pytest.raises(NoActiveAccount):
        signing_in.start(ann, UNKNOWN, Terms())
    assert Session.objects.count() == 1


def test_simplejwts_default_rule_path_means_ours(settings: Settings, app: App) -> None:
    settings.SIMPLE_JWT = as_set(settings) | {
        "USER_AUTHENTICATION_RULE": f"{theirs('authentication').__name__}.default_user_authentication_rule"
    }
    assert app.refresh().status_code == 200
    Session.objects.update(revoked_at=None)
    type(Session.objects.get().user)._default_manager.update(is_active=False)
    assert App().login().status_code == 401
    ours: Any = importlib.import_module("tokens.authentication")
    assert ours.default_user_authentication_rule(None) is False


@pytest.mark.parametrize("client", [App, Browser])
def test_last_login_is_updated_if_configured(settings: Settings, ann: Any, client: Any) -> None:
    client().login()
    ann.refresh_from_db()
    assert ann.last_login is None
    settings.SIMPLE_JWT = {"UPDATE_LAST_LOGIN": True}
    client().login()
    ann.refresh_from_db()
    assert ann.last_login is not None


def test_login_callables_are_called(settings: Settings, ann: Any) -> None:
    heard: list[Any] = []
    settings.SIMPLE_JWT = {
        "ON_LOGIN_SUCCESS": lambda user, request: heard.append((user, request.method)),
        "ON_LOGIN_FAILED": lambda credentials, request: heard.append((credentials, request.method)),
        "UPDATE_LAST_LOGIN": True,
    }
    App().login()
    Browser().login(password="wrong")
    assert heard == [(ann, "POST"), ({"username": "ann", "password": "*" * 20}, "POST")]
    ann.refresh_from_db()
    assert ann.last_login is None


def test_simplejwts_default_callable_paths_mean_ours(settings: Settings, ann: Any) -> None:
    settings.SIMPLE_JWT = {
        f"ON_LOGIN_{name}": f"rest_framework_simplejwt.serializers.default_on_login_{name.lower()}"
        for name in ("SUCCESS", "FAILED")
    }
    App().login()
    App().login(password="wrong")
    ann.refresh_from_db()
    assert ann.last_login is not None


# Serializers without a view


@pytest.mark.parametrize("request_", [None, HttpRequest()])
def test_serializers_work_without_a_request_and_with_a_django_request(ann: Any, request_: Any) -> None:
    context = {} if request_ is None else {"request": request_}

    def validated(serializer: type[Any], **data: str) -> Any:
        given = serializer(data=data, context=context)
        given.is_valid(raise_exception=True)
        return given.validated_data

    pair = validated(TokenObtainPairSerializer, **CREDENTIALS)
    pair = validated(TokenRefreshSerializer, refresh=pair["refresh"])
    assert validated(serializers.TokenVerifySerializer, token=pair["access"]) == {}
    assert validated(serializers.TokenBlacklistSerializer, refresh=pair["refresh"]) == {}
    assert Session.objects.get().ip_address is None
    with pytest.raises((TokenError, APIException)):
        validated(TokenRefreshSerializer, refresh=pair["refresh"])


TEXTS: list[Any] = [
    "x",
    "x y",
    "é",
    " x",
    "x ",
    "x\u3000",
    "",
    "\0",
    "\ud800",
    "x\t",
    "x" * 5000,
    5,
    True,
    None,
    ["x"],
    {},
]
PLAIN = (TokenObtainPairSerializer, TokenRefreshSerializer, serializers.RefreshSerializer, TokenBlacklistSerializer)


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_body_is_read_as_its_fields_read_it(kind: Any) -> None:
    def read(data: Any, *, by_fields: bool) -> Any:
        serializer = kind(data=data)
        if by_fields:
            assert serializer.fields
        try:
            values = serializer.to_internal_value(data)
        except ValidationError as error:
            return error.get_full_details()
        assert by_fields or ("fields" in vars(serializer)) == (text not in ("x", "x y", "é"))
        return {name: values[name] for name in kind.plain}

    for name, text in product(kind.plain, TEXTS):
        data = {**dict.fromkeys(kind.plain, "x"), name: text}
        assert read(data, by_fields=False) == read(data, by_fields=True)
    other: list[Any] = [{}, [], "x", None, {"more": "x"}]
    for data in other:
        assert kind(data=data).is_valid() is False


def test_validators_that_a_project_adds_run() -> None:
    def refuse(values: Any) -> None:
        raise ValidationError(f"No {values['refresh']} here.")

    class Refusing(TokenRefreshSerializer):
        class Meta:
            validators = (refuse,)

    serializer = Refusing(data={"refresh": "x"})
    assert not serializer.is_valid()
    assert serializer.errors == {"non_field_errors": ["No x here."]}


def test_fields_that_a_project_adds_are_read(ann: Any) -> None:
    class WithCode(TokenObtainPairSerializer):
        code = CharField()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.fields["password"].required = False

    assert ask(TokenObtainPairView.as_view(serializer_class=WithCode), username="ann").data == {
        "code": ["This field is required."]
    }


def test_username_field_of_the_serializer_is_used(settings: Settings, ann: Any) -> None:
    class ByEmail(TokenObtainPairSerializer):
        username_field = "email"

    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.EmailBackend"]
    view = TokenObtainPairView.as_view(serializer_class=ByEmail)
    assert ask(view, email="ann@example.com", password=PASSWORD).status_code == 200
    assert ask(view, email="ann@example.com", password="wrong").status_code == 401


class EmailBackend:
    def authenticate(self, request: Any, email: str, password: str) -> Any:
        from django.contrib.auth import get_user_model  # noqa: PLC0415 (after the settings)

        user: Any = get_user_model()._default_manager.get(email=email)
        return user if user.check_password(password) else None


# Without rotation


@pytest.fixture
def unrotated(settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": False}


@pytest.mark.usefixtures("unrotated")
def test_refresh_without_rotation_keeps_the_token(app: App) -> None:
    row = Session.objects.values().get()
    for _ in range(3):
        answer = refreshed(app.refresh_token)
        assert (answer.status_code, list(answer.data)) == (200, ["access"])
    assert Session.objects.values().get() == row
    with time_machine.travel(row["expires_at"] - timedelta(seconds=1)):
        assert refreshed(app.refresh_token).status_code == 200
    with time_machine.travel(row["expires_at"]):
        assert refreshed(app.refresh_token).data["code"] == "token_expired"
    app.blacklist(app.refresh_token)
    assert refreshed(app.refresh_token).data["code"] == "token_revoked"


@pytest.mark.usefixtures("unrotated")
def test_cookie_rotates_even_without_rotation_and_supersedes(browser: Browser) -> None:
    first = browser.cookie
    assert refreshed(first).status_code == 200
    browser.refresh()
    assert browser.cookie != first
    assert claims_of(refreshed(first).data["access"])["generation"] == 1
    assert refreshed(browser.cookie).status_code == 200
    assert Session.objects.get().confirmed
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=11)):
        assert refreshed(first).data["code"] == "token_reused"
    assert refreshed(browser.cookie).data["code"] == "token_revoked"


@pytest.mark.usefixtures("unrotated")
def test_session_ended_during_a_refresh_without_rotation_is_reported(browser: Browser) -> None:
    browser.refresh()

    def end_it() -> None:
        Session.objects.update(revoked_at=datetime.now(UTC))

    with just_before('UPDATE "latchkey_session"', end_it):
        assert refreshed(browser.cookie).data["code"] == "token_revoked"
    assert not Session.objects.get().confirmed
