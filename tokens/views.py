from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any, ClassVar, cast
from urllib.parse import urljoin

from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.decorators import method_decorator
from django.utils.http import quote_etag
from django.views.decorators.cache import cache_control
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import FormParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt import views as simplejwt

from . import exceptions, responses, serializers
from .authentication import JWTAuthentication, LogoutAuthentication, Service, ServiceAuthentication
from .conf import conf, resolve
from .domain import feed, sessions
from .exceptions import CursorExpired, NotSupported, ProofRefused, TokenNotValid, TokenRefused
from .http import cookies
from .http.errors import Gone, exception_handler
from .http.operations import EXCHANGE, KEY_OF_LOGIN, LOOK, OWN, ROTATION, SECOND_STEP, Operation
from .http.parsers import JSONParser, MultiPartParser
from .http.refusals import challenge
from .http.requests import check_same_site, client_of
from .http.throttles import AddressThrottle
from .jose import dpop, jwt, keys
from .models import Reason, Session
from .serializers import UseCaseSerializer
from .tokens import SLIDING, AccessToken, RefreshToken

InvalidToken = exceptions.InvalidToken
TokenError = exceptions.TokenError


class OwnTransactions(APIView):
    """A view outside of ATOMIC_REQUESTS, so a session that a refused request has revoked stays revoked.

    It ignores URL parameters, which a project may have put before the app's paths.
    """

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view: Any = super().as_view(**initkwargs)
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view


class TokenView(OwnTransactions):
    """A view whose answers may carry tokens: no cache stores them, and all errors have the same shape."""

    cache_control = "no-store"
    authentication_classes: Any = ()
    permission_classes: Any = ()
    parser_classes: Any = (JSONParser,)
    renderer_classes: Any = (JSONRenderer,)
    throttle_classes: Any = (AddressThrottle,)
    throttle_scope: str | None = None

    def get_authenticate_header(self, request: Request) -> str:
        # Without it, DRF turns the 401 of a view without authenticators into a 403.
        return challenge()

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return exception_handler

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Answer a client that takes any type with the first, as DRF does after parsing the header's text."""
        takes_any = request.META.get("HTTP_ACCEPT", "*/*") == "*/*" and not request.META.get("QUERY_STRING")
        if takes_any and self.content_negotiation_class is DefaultContentNegotiation:
            first = self.get_renderers()[0]
            return first, first.media_type
        return super().perform_content_negotiation(request, force)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(*args, **kwargs)
        response["Cache-Control"] = self.cache_control
        return response


class AuthView(TokenView):
    """A view below the cookie's path, protected against requests from other sites."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_same_site(request._request)
        super().initial(request, *args, **kwargs)


class UseCaseView(AuthView):
    """A view that parses its input, performs a use case, and answers without a body."""

    serializer_class: ClassVar[type[UseCaseSerializer]]
    success: ClassVar[int] = status.HTTP_204_NO_CONTENT

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.serializer_class(data=self.input(request), context=self.context(request))
        serializer.is_valid(raise_exception=True)
        return self.respond(serializer.save())

    def input(self, request: Request) -> Any:
        return request.data

    def context(self, request: Request) -> dict[str, Any]:
        return {"request": request}

    def respond(self, result: Any) -> Response:
        return Response(status=self.success)


class SignInView(UseCaseView):
    """A sign-in of the cookie transport. The new session replaces the one in the request's cookie."""

    def context(self, request: Request) -> dict[str, Any]:
        return {"request": request, "former": cookies.former(request)}


class LoginView(SignInView):
    throttle_scope = "login"
    serializer_class: ClassVar[type[UseCaseSerializer]] = serializers.LoginSerializer
    operations = {
        "post": Operation(
            "login",
            "Sign in",
            {200: responses.SignedIn},
            {401: ("invalid_credentials", "second_factor_required", *KEY_OF_LOGIN)},
            cookie=(200,),
        ),
    }

    def respond(self, result: Session) -> Response:
        return signed_in(result)


class SecondStepView(LoginView):
    """The second step of a login that was answered with a challenge."""

    serializer_class = serializers.SecondStepSerializer
    operations = {
        "post": Operation(
            "loginSecondStep",
            "Sign in: the second step",
            {200: responses.SignedIn},
            {401: SECOND_STEP},
            cookie=(200,),
        ),
    }


class ExchangeView(TokenView):
    """An endpoint for users with a Django session. It does not exist unless TOKENS_SESSION_EXCHANGE is set."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not conf.session_exchange:
            raise NotFound
        check_same_site(request._request)  # in either transport, since it takes a cookie
        super().initial(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        """Keep the user whom the project's middleware found by the Django session."""
        request.user = getattr(request._request, "user", AnonymousUser())


class SessionExchangeView(ExchangeView, LoginView):
    serializer_class: ClassVar[type[UseCaseSerializer]] = serializers.ExchangeSerializer
    operations = {
        "post": Operation(
            "exchangeSession",
            "Sign in with a Django session",
            {200: responses.SignedIn},
            {401: EXCHANGE, 404: ("not_found",)},
            cookie=(200,),
        ),
    }


class RefreshView(UseCaseView):
    throttle_scope = "refresh"
    serializer_class = serializers.RefreshSerializer
    operations = {
        "post": Operation(
            "refreshAccessToken",
            "Refresh the access token",
            {200: responses.Refreshed},
            {401: ("refresh_token_missing", *ROTATION)},
            request=None,
            auth=[{"refreshToken": []}],
            cookie=(200, 401),
        ),
    }

    def input(self, request: Request) -> dict[str, str]:
        return {"refresh": cookies.read(request)}

    def respond(self, result: Session) -> Response:
        return _with_cookie(Response(_access(AccessToken.of(result))), result)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        # Not without a cookie: that would undo a parallel sign-in. Not for a refused proof either: the session is still
        # good.
        if isinstance(exc, TokenRefused) and not isinstance(exc, cookies.RefreshTokenMissing | ProofRefused):
            cookies.clear(response)
        return response


class LogoutView(AuthView):
    """End the session of an access token and a refresh token that belong together."""

    authentication_classes = (LogoutAuthentication,)
    permission_classes = (IsAuthenticated,)
    operations = {
        "post": Operation(
            "logout", "Sign out", {204: None}, {401: ("refresh_token_missing",)}, request=None, cookie=(204,)
        ),
    }

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        session = _session(request)
        if not sessions.belongs(RefreshToken.claims(cookies.read(request)), session):
            raise TokenNotValid
        sessions.revoke(session, Reason.LOGOUT, client_of(request), session.user)
        return _without_cookie()


class LogoutAllView(AuthView):
    authentication_classes = (JWTAuthentication,)
    permission_classes = (IsAuthenticated,)
    operations = {
        "post": Operation("logoutEverywhere", "Sign out everywhere", {204: None}, request=None, cookie=(204,)),
    }

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        user = _session(request).user
        sessions.revoke_all(user, Reason.LOGOUT_ALL, client_of(request), user)
        return _without_cookie()


class RevokeView(AuthView):
    """Revoke the session of a token of either kind (RFC 7009); any other text counts as revoked."""

    parser_classes = (FormParser,)
    operations = {
        "post": Operation("revokeToken", "Revoke a token (RFC 7009)", {200: None}, request=serializers.TokenSerializer),
    }

    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        token, client = _token_from(request), client_of(request)
        try:
            claims = RefreshToken.claims(token, client) if jwt.is_refresh(token) else AccessToken.claims(token)
            session = sessions.find(claims)
            sessions.revoke(session, Reason.LOGOUT, client, session.user)
        except TokenRefused:
            pass
        return Response()


class IsStaffOrService(IsAuthenticated):
    def has_permission(self, request: Request, view: APIView) -> bool:
        user: Any = request.user
        return super().has_permission(request, view) and (isinstance(user, Service) or getattr(user, "is_staff", False))


class IntrospectView(AuthView):
    """Say whether a token would be accepted now, and whose it is (RFC 7662). It does not count as a use."""

    authentication_classes = (JWTAuthentication, ServiceAuthentication)
    permission_classes = (IsStaffOrService,)
    parser_classes = (FormParser,)
    operations = {
        "post": Operation(
            "introspectToken",
            "Introspect a token (RFC 7662)",
            {200: responses.Introspection},
            {401: ("invalid_credentials",), 403: ("permission_denied",)},
            request=serializers.TokenSerializer,
        ),
    }

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        try:
            token = serializers.token_of(_token_from(request))
        except TokenRefused:
            return Response({"active": False})
        session = token.session
        claims = {
            name: token[name]
            for name in ("sub", "iss", "aud", "iat", "exp", "jti", "sid", "token_type")
            if name in token
        }
        if session.jkt:
            claims["cnf"] = {"jkt": session.jkt}
        return Response(
            {
                "active": True,
                "username": str(session.user.get_username()),
                "groups": sorted(session.groups or ()),
                **claims,
            }
        )


class EndedView(AuthView):
    """List the sessions that ended since the last request, for services that verify tokens themselves."""

    authentication_classes = (ServiceAuthentication,)
    permission_classes = (IsAuthenticated,)
    operations = {
        "get": Operation(
            "endedSessions",
            "List the sessions that ended",
            {200: responses.EndedSessions, 304: None},
            {401: ("not_authenticated", "invalid_credentials"), 410: ("cursor_expired",)},
            parameters=(serializers.AfterSerializer,),
            fields=True,
        ),
    }

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
        serializer = serializers.AfterSerializer(data=request.query_params)
        serializer.is_valid(raise_exception=True)
        try:
            page = feed.read(serializer.validated_data.get("after"))
        except CursorExpired as error:
            raise Gone from error
        ended = [{"sid": str(row.session), "at": row.at, "reason": row.reason} for row in page.ended]
        response = Response({"ended": ended, "next": str(page.next), "interval": feed.INTERVAL})
        response["ETag"] = etag = f'W/"{page.tag}"'
        return get_conditional_response(request._request, etag=etag, response=response)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if response.status_code == status.HTTP_401_UNAUTHORIZED:
            response["WWW-Authenticate"] = 'Basic realm="api"'
        return response


class AlwaysJSON(DefaultContentNegotiation):
    """Answer JSON, whatever the Accept header says."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class PublishedView(OwnTransactions):
    """A public document about this server. Clients may cache it for a while, and then ask whether it has changed."""

    authentication_classes: Any = ()
    permission_classes: Any = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJSON

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return exception_handler

    @method_decorator(cache_control(public=True, max_age=keys.KEY_SET_MAX_AGE))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
        response = JsonResponse(self.document(request))
        response["ETag"] = etag = quote_etag(sha256(response.content).hexdigest())
        return get_conditional_response(request._request, etag=etag, response=response)

    def document(self, request: Request) -> dict[str, Any]:
        raise NotImplementedError


class KeySetView(PublishedView):
    """The keys that verify access tokens (RFC 7517)."""

    operations = {
        "get": Operation(
            "keySet",
            "Get the keys that verify access tokens (RFC 7517)",
            {200: responses.KEY_SET, 304: None},
            database=False,
        ),
    }

    def document(self, request: Request) -> dict[str, Any]:
        return keys.key_set()


class MetadataView(PublishedView):
    """The metadata for OAuth software (RFC 8414). There are no grants: people sign in by this server's own API."""

    operations = {
        "get": Operation(
            "metadata",
            "Get the OAuth metadata (RFC 8414)",
            {200: responses.OBJECT, 304: None},
            database=False,
        ),
    }

    @property
    def base(self) -> str:
        """The start of the URLs. The issuer can be a URL, and often is."""
        issuer = str(conf.issuer)
        return conf.public_url or (issuer if issuer.startswith(("https://", "http://")) else "")

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
        response = super().get(request)
        if response and not self.base:
            # The URLs contain the request's Host, which any client can choose, so no shared cache may keep them.
            patch_cache_control(response, private=True)
        return response

    def document(self, request: Request) -> dict[str, Any]:
        match: Any = request.resolver_match
        namespace = match.namespace or "latchkey"

        def url(name: str) -> str:
            # The project may have included the URLs under another namespace, and with parameters.
            path = reverse(f"{namespace}:{name}", kwargs=match.kwargs)
            return urljoin(self.base or request.build_absolute_uri(), path)

        return {
            "issuer": conf.issuer,
            "jwks_uri": url("key_set"),
            "response_types_supported": [],
            "grant_types_supported": [],
            "revocation_endpoint": url("revoke"),
            "revocation_endpoint_auth_methods_supported": ["none"],
            "introspection_endpoint": url("introspect"),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
            "dpop_signing_alg_values_supported": list(dpop.ALGORITHMS),
        }


class TokenViewBase(TokenView, simplejwt.TokenViewBase):
    """An endpoint of SimpleJWT, with its bodies: JSON or a form."""

    parser_classes = (JSONParser, FormParser, MultiPartParser)
    serializer_setting = ""
    """The setting in `conf` that can name another serializer."""

    default_serializer: Any = None

    def get_parsers(self) -> list[Any]:
        """Read bodies as the project does: its parsers may turn camelCase into snake_case."""
        if self.parser_classes is not TokenViewBase.parser_classes:
            return super().get_parsers()  # the view's own choice
        known = tuple(APIView.parser_classes)  # the project's setting
        return [_of_the_project(parser, known)() for parser in self.parser_classes]

    def get_renderers(self) -> list[Any]:
        """Answer JSON or, in a browser, if the project has the browsable API, a page with a form, as SimpleJWT does."""
        renderers: list[Any] = super().get_renderers()
        if self.renderer_classes is TokenView.renderer_classes:
            renderers = [_of_the_project(JSONRenderer, tuple(APIView.renderer_classes))()]
        if self.serializer_class or self._serializer_class or self.serializer_setting:
            known: Any = APIView.renderer_classes  # the project's setting
            renderers += [page() for page in known if issubclass(page, BrowsableAPIRenderer)]
        return renderers

    def get_view_name(self) -> str:
        operation = getattr(self, "operations", {}).get("post")
        return str(operation.summary) if operation else str(super().get_view_name())

    def get_view_description(self, html: bool = False) -> str:
        return ""  # DRF would take the docstring, which is for readers of the code

    def get_serializer_class(self) -> Any:
        if self.serializer_class is not None:
            return self.serializer_class
        if self._serializer_class or not self.serializer_setting:
            return super().get_serializer_class()
        return resolve(getattr(conf, self.serializer_setting)) or self.default_serializer

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.validated_data)


@cache
def _of_the_project(own: type[Any], known: tuple[Any, ...]) -> type[Any]:
    """Return the project's kind of a parser or renderer of DRF, with what ours adds to DRF's; ours if it has none."""
    original = next(base for base in own.__mro__ if base.__module__.startswith("rest_framework."))
    theirs = next((kind for kind in known if issubclass(kind, original) and kind is not original), own)
    if own is original or issubclass(theirs, own):
        return theirs
    return type(own.__name__, (own, theirs), {})


class TokenObtainPairView(TokenViewBase):
    throttle_scope = "login"
    serializer_setting = "token_obtain_serializer"
    default_serializer = serializers.TokenObtainPairSerializer
    operations = {
        "post": Operation(
            "obtainTokens",
            "Sign in (body transport)",
            {200: OWN},
            {401: ("no_active_account", "second_factor_required", *KEY_OF_LOGIN)},
        ),
    }


class SecondStepPairView(TokenViewBase):
    throttle_scope = "login"
    serializer_class = serializers.SecondStepPairSerializer
    operations = {
        "post": Operation(
            "obtainTokensSecondStep",
            "Sign in: the second step (body transport)",
            {200: OWN},
            {401: SECOND_STEP},
        ),
    }


class SessionExchangePairView(ExchangeView, TokenViewBase):
    throttle_scope = "login"
    serializer_class = serializers.ExchangePairSerializer
    operations = {
        "post": Operation(
            "obtainTokensWithSession",
            "Sign in with a Django session (body transport)",
            {200: OWN},
            {401: EXCHANGE, 403: ("cross_site_request",), 404: ("not_found",)},
        ),
    }


class TokenRefreshView(TokenViewBase):
    throttle_scope = "refresh"
    serializer_setting = "token_refresh_serializer"
    default_serializer = serializers.TokenRefreshSerializer
    operations = {
        "post": Operation("refreshTokens", "Refresh the tokens (body transport)", {200: OWN}, {401: ROTATION}),
    }


class TokenVerifyView(TokenViewBase):
    serializer_setting = "token_verify_serializer"
    default_serializer = serializers.TokenVerifySerializer
    operations = {
        "post": Operation("verifyToken", "Verify a token", {200: responses.EMPTY}, {401: LOOK}),
    }


class TokenBlacklistView(TokenViewBase):
    serializer_setting = "token_blacklist_serializer"
    default_serializer = serializers.TokenBlacklistSerializer
    operations = {
        "post": Operation("blacklistToken", "Sign out (body transport)", {200: responses.EMPTY}, {401: LOOK}),
    }


class SlidingView(TokenViewBase):
    """Not supported."""

    @classmethod
    def as_view(cls, **_: Any) -> Any:
        raise NotSupported(SLIDING)


class TokenObtainSlidingView(SlidingView):
    pass


class TokenRefreshSlidingView(SlidingView):
    pass


token_obtain_pair = TokenObtainPairView.as_view()
token_refresh = TokenRefreshView.as_view()
token_verify = TokenVerifyView.as_view()
token_blacklist = TokenBlacklistView.as_view()


def token_obtain_sliding(request: HttpRequest) -> HttpResponse:
    raise NotSupported(SLIDING)


token_refresh_sliding = token_obtain_sliding


def signed_in(session: Session, status_code: int = status.HTTP_200_OK) -> Response:
    """Answer a login: the access token in the body, the refresh token in the cookie."""
    user = session.user
    body = {
        "id": user.pk,
        "username": str(user.get_username()),
        "email": getattr(user, user.get_email_field_name(), ""),
    }
    return _with_cookie(Response({**_access(AccessToken.of(session)), "user": body}, status_code), session)


def succeeded(request: Request, session: Session) -> Response:
    """Answer with the tokens of the session that replaces the caller's.

    The refresh token goes the way the old one came: in the cookie, or as `refresh` in the body.
    """
    response = Response(_access(AccessToken.of(session)))
    if cast(dict[str, Any], request.data).get("refresh") is not None:
        response.data["refresh"] = str(RefreshToken.of(session))
    return _with_cookie(response, session) if request.COOKIES.get(conf.cookie_name) else response


def renewed(token: AccessToken) -> Response:
    """Answer with a renewed access token. The refresh token and its cookie stay as they are."""
    return Response(_access(token.renew()))


def _session(request: Request) -> Session:
    """Return the session of the request's access token."""
    session: Session | None = getattr(request.auth, "session", None)
    if session is None:
        raise NotSupported(
            "This view needs a session, which force_authenticate of DRF's APIClient doesn't provide. "
            "Use the APIClient from this package's testing module."
        )
    return session


def _access(token: AccessToken) -> dict[str, Any]:
    token_type = "DPoP" if "cnf" in token else "Bearer"
    return {"accessToken": str(token), "tokenType": token_type, "expiresIn": token.expires_in}


def _with_cookie(response: Response, session: Session) -> Response:
    cookies.write(response, RefreshToken.of(session))
    return response


def _without_cookie() -> Response:
    response = Response(status=status.HTTP_204_NO_CONTENT)
    cookies.clear(response)
    return response


def _token_from(request: Request) -> str:
    serializer = serializers.TokenSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    return str(serializer.validated_data["token"])
