"""The stateless guard: the user comes from the claims, and the keys may come from another server."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import (
    AllowAny,
    BasePermission,
    DjangoModelPermissions,
    DjangoModelPermissionsOrAnonReadOnly,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView, exception_handler

from tests.clients import claims_of, header_of
from tests.forgery import access_token, anybody, forge
from tests.publisher import Publisher, publishing
from tokens.authentication import StatelessJWTAuthentication
from tokens.http import errors
from tokens.jose import keys
from tokens.models import Session, TokenUser
from tokens.tokens import AccessToken, RefreshToken


class IsWriter(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        user: Any = request.user
        return isinstance(user, TokenUser) and "writers" in user.groups


class Stateless(APIView):
    authentication_classes: Any = (StatelessJWTAuthentication,)
    permission_classes: Any = (IsAuthenticated,)
    queryset = Session.objects.none()  # the model permissions ask for its permissions

    def get_exception_handler(self) -> Any:
        return errors.exception_handler

    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response({name: getattr(user, name) for name in TOLD} if user.is_authenticated else {})

    post = get


class StockHandler(Stateless):
    """A project with DRF's own exception handler."""

    def get_exception_handler(self) -> Any:
        return exception_handler


TOLD = (
    "id",
    "pk",
    "username",
    "is_active",
    "is_staff",
    "is_superuser",
    "is_authenticated",
    "is_anonymous",
    "groups",
    "tenant",
)
GUARDS: dict[str, Any] = {
    "any": AllowAny,
    "authenticated": IsAuthenticated,
    "authenticated-or-read": IsAuthenticatedOrReadOnly,
    "staff": IsAdminUser,
    "model": DjangoModelPermissions,
    "model-or-read": DjangoModelPermissionsOrAnonReadOnly,
    "writers": IsWriter,
    "staff-or-writers": IsAdminUser | IsWriter,
}

urlpatterns = [
    *(path(name, Stateless.as_view(permission_classes=(permission,))) for name, permission in GUARDS.items()),
    path("stock-handler", StockHandler.as_view()),
]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


def ask(token: str = "", guard: str = "authenticated", method: str = "get") -> Any:
    headers = {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}
    return getattr(APIClient(), method)(f"/{guard}", **headers)


def tenant(session: Session) -> dict[str, Any]:
    return {"tenant": "acme"}


@pytest.fixture
def token(ann: Any) -> str:
    return str(AccessToken.for_user(ann))


def test_user_is_built_from_the_claims(ann: Any, settings: Settings, django_assert_num_queries: Any) -> None:
    settings.TOKENS_ACCESS_CLAIMS = f"{__name__}.tenant"
    ann.groups.set([Group.objects.create(name="writers"), Group.objects.create(name="editors")])
    ann.is_staff = True
    ann.save()
    token = str(AccessToken.for_user(ann))

    with django_assert_num_queries(0):
        response = ask(token)

    assert response.data == {
        "id": str(ann.pk),
        "pk": str(ann.pk),
        "username": "ann",
        "is_active": True,
        "is_staff": True,
        "is_superuser": False,
        "is_authenticated": True,
        "is_anonymous": False,
        "groups": ["editors", "writers"],
        "tenant": "acme",
    }


# Who may read behind each guard, and who may write.
EVERYBODY = {"nobody", "member", "writer", "staff", "superuser"}
USERS = EVERYBODY - {"nobody"}
MAY = {
    "any": (EVERYBODY, EVERYBODY),
    "authenticated": (USERS, USERS),
    "authenticated-or-read": (EVERYBODY, USERS),
    "staff": ({"staff"}, {"staff"}),
    "model": (USERS, {"superuser"}),
    "model-or-read": (EVERYBODY, {"superuser"}),
    "writers": ({"writer"}, {"writer"}),
    "staff-or-writers": ({"staff", "writer"}, {"staff", "writer"}),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_permission_classes_answer_from_the_claims(token: str, guard: str, django_assert_num_queries: Any) -> None:
    claims = claims_of(token)
    people = {
        "nobody": "",
        "member": token,
        "writer": access_token({**claims, "groups": ["writers"]}),
        "staff": access_token({**claims, "is_staff": True}),
        "superuser": access_token({**claims, "is_superuser": True}),
    }

    with django_assert_num_queries(0):
        for who, held in people.items():
            refused = 403 if held else 401
            for method, allowed in zip(("get", "post"), MAY[guard], strict=True):
                assert ask(held, guard, method).status_code == (200 if who in allowed else refused), (who, method)


@pytest.mark.parametrize("superuser", [True, False])
def test_only_a_superuser_has_permissions(token: str, superuser: bool) -> None:
    user = TokenUser(AccessToken.from_claims({**claims_of(token), "is_superuser": superuser}))

    assert user.has_perm("latchkey.add_session") is superuser
    assert user.has_perm("latchkey.add_session", object()) is superuser
    assert user.has_perms(["latchkey.add_session", "latchkey.view_session"]) is superuser
    assert user.has_perms([])
    assert user.has_module_perms("tokens") is superuser


def test_users_are_equal_by_their_id(token: str) -> None:
    claims = claims_of(token)
    user, again, other = (
        TokenUser(AccessToken.from_claims({**claims, **change})) for change in ({}, {"jti": "x"}, {"sub": "0"})
    )

    assert user == again
    assert user != other
    assert len({user, again, other}) == 2


def test_ended_session_is_accepted_until_the_token_expires(token: str) -> None:
    Session.objects.all().delete()

    assert ask(token).status_code == 200


# With the keys of another server


@pytest.fixture
def issuer(settings: Settings) -> Iterator[Publisher]:
    """The server that issues the tokens: it has our keys, and we fetch them."""
    with publishing() as publisher:
        publisher.publish(*keys.key_set()["keys"])
        settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "JWK_URL": publisher.url}
        yield publisher


@pytest.fixture
def service(issuer: Publisher, token: str, settings: Settings) -> Publisher:
    """A service that knows only the issuer's URL."""
    settings.SECRET_KEY = "the service's own secret key " * 2
    return issuer


def test_token_of_the_issuer_is_accepted(service: Publisher, token: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        for _ in range(3):
            assert ask(token).status_code == 200

    assert service.requests == 1


def test_token_signed_by_the_services_own_key_is_refused(service: Publisher, token: str) -> None:
    for kid in (keys.access_keys()[0].kid, header_of(token)["kid"]):
        response = ask(access_token(claims_of(token), kid=kid))
        assert (response.status_code, response.data["code"]) == (401, "token_not_valid")


def test_refresh_token_of_the_issuer_is_refused(issuer: Publisher, ann: Any) -> None:
    response = ask(str(RefreshToken.for_user(ann)))

    assert (response.status_code, response.data["code"]) == (401, "token_not_valid")


def test_expired_token_of_the_issuer_has_its_own_code(issuer: Publisher, token: str) -> None:
    response = ask(access_token({**claims_of(token), "exp": 1}))

    assert (response.status_code, response.data["code"]) == (401, "token_expired")


@pytest.mark.parametrize("setting", ["AUDIENCE", "ISSUER"])
def test_token_for_another_audience_or_of_another_issuer_is_refused(
    service: Publisher, token: str, settings: Settings, setting: str
) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, setting: "https://other.example"}

    assert ask(token).data["code"] == "token_not_valid"


def test_unknown_kids_make_the_service_fetch_keys_once(service: Publisher, token: str) -> None:
    for number in range(10):
        response = ask(forge({"alg": "EdDSA", "kid": str(number), "typ": "at+jwt"}, claims_of(token), anybody))
        assert (response.status_code, response.data["code"]) == (401, "token_not_valid")

    assert service.requests == 1


@pytest.mark.parametrize("guard", ["authenticated", "stock-handler"])
def test_outage_of_the_issuer_is_503(service: Publisher, token: str, guard: str) -> None:
    service.status = 500

    response = ask(token, guard)

    assert response.status_code == 503
    assert response["Retry-After"] == "10"
    assert response.data["detail"] == "Tokens can't be verified right now. Try again in a few seconds."
    assert response.data["detail"].code == "unavailable"
    assert "WWW-Authenticate" not in response


def test_outage_has_the_usual_error_shape(service: Publisher, token: str) -> None:
    service.status = 500

    assert ask(token).json() == {
        "detail": "Tokens can't be verified right now. Try again in a few seconds.",
        "code": "unavailable",
    }


def test_malformed_token_is_refused_without_fetching_keys(service: Publisher) -> None:
    service.status = 500

    for token in ("nonsense", "a.b.c", forge({"alg": "none"}, {}, anybody)):
        assert ask(token).status_code == 401

    assert service.requests == 0
