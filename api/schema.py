"""What the OpenAPI schema tells and the views can't: each answer, error code, header and cookie.

The views stay free of it: a view's operations are found here by its dotted path. What follows from the view's class
(who may pass, which bodies it reads, how its lists are paged) is taken from there.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from threading import Lock
from typing import Any

from django.conf import settings
from django.utils import translation
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import serializers as drf
from rest_framework.fields import empty
from rest_framework.views import APIView

from accounts import passkeys
from tokens import serializers as tokens
from tokens.authentication import JWTAuthentication, ServiceAuthentication
from tokens.contrib import spectacular
from tokens.jose.keys import KEY_SET_MAX_AGE
from tokens.views import AuthView, PublishedView, TokenView

from . import serializers
from .health import HealthView

Schema = dict[str, Any]

# Who may call

FOR_PROGRAMS = (JWTAuthentication, ServiceAuthentication)
COOKIE: list[dict[str, list[str]]] = [{spectacular.LogoutScheme.name: []}]

# What is answered

ACCESS: dict[str, drf.Field[Any, Any, Any, Any]] = {
    "accessToken": drf.CharField(),
    "tokenType": drf.CharField(help_text="`Bearer`, or `DPoP` where the token is bound to a key (RFC 9449)."),
    "expiresIn": drf.IntegerField(help_text="Seconds."),
}
USER = inline_serializer(
    "SignedInUser", {"id": drf.IntegerField(), "username": drf.CharField(), "email": drf.CharField()}
)
SIGNED_IN = inline_serializer("SignedIn", {**ACCESS, "user": USER})
REGISTERED = inline_serializer("Registered", {"detail": drf.CharField(help_text="What to do to get in.")})
SUCCEEDED = inline_serializer("Succeeded", {**ACCESS, "refresh": drf.CharField(required=False)})
REFRESHED = inline_serializer("Refreshed", ACCESS)
REVOKED = inline_serializer("Revoked", {"revoked": drf.IntegerField(help_text="How many sessions were ended.")})
SECOND_FACTOR = inline_serializer(
    "SecondFactor",
    {
        "enabled": drf.BooleanField(),
        "enabledAt": drf.DateTimeField(allow_null=True),
        "recoveryCodesLeft": drf.IntegerField(),
        "passkeys": drf.IntegerField(),
    },
)
ENROLMENT = inline_serializer(
    "SecondFactorSecret",
    {
        "secret": drf.CharField(help_text="In base32, to be typed."),
        "otpauthUri": drf.CharField(help_text="The same, for an app on this device."),
        "qrCode": drf.CharField(help_text="The same, to be scanned: an SVG picture, as a `data:` URI."),
    },
)
RECOVERY_CODES = inline_serializer("IssuedRecoveryCodes", {"recoveryCodes": drf.ListField(child=drf.CharField())})
OPTIONS = inline_serializer(
    "PasskeyOptions",
    {
        "challenge": drf.CharField(help_text="To be sent back as it is."),
        "publicKey": drf.DictField(help_text="For `parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`."),
    },
)
PASSKEYS = inline_serializer(
    "Passkeys",
    {
        "rpId": drf.CharField(help_text="With `userId`, what `signalAllAcceptedCredentials` takes."),
        "userId": drf.CharField(),
        "results": passkeys.ListedPasskeySerializer(many=True),
    },
)


class NewPasskeyAnswer(passkeys.PasskeySerializer):
    recoveryCodes = drf.ListField(  # noqa: N815
        child=drf.CharField(), required=False, help_text="With the account's first second factor."
    )


STATUS = inline_serializer("Status", {"status": drf.CharField(help_text="`ok`.")})
INTROSPECTION = inline_serializer(
    "Introspection",
    {
        "active": drf.BooleanField(help_text="Whether the token would be accepted now. If not, nothing else is told."),
        **{name: drf.CharField(required=False) for name in ("sub", "username", "iss", "jti", "sid")},
        "aud": drf.CharField(required=False, help_text="Of an access token."),
        "iat": drf.IntegerField(required=False),
        "exp": drf.IntegerField(required=False),
        "groups": drf.ListField(child=drf.CharField(), required=False),
        "token_type": drf.CharField(required=False, help_text="`access` or `refresh`."),
        "cnf": drf.DictField(
            child=drf.CharField(), required=False, help_text="The key to which it is bound, as `jkt` (RFC 9449)."
        ),
    },
)
ENDED = inline_serializer(
    "EndedSessions",
    {
        "ended": inline_serializer(
            "EndedSession",
            {
                "sid": drf.CharField(help_text="The session, as its tokens name it."),
                "at": drf.DateTimeField(),
                "reason": drf.CharField(),
            },
            many=True,
        ),
        "next": drf.CharField(help_text="What to ask with next, as `after`."),
        "interval": drf.IntegerField(help_text="Seconds until then."),
    },
)
TEXT = {"type": "string"}
EMPTY = {"type": "object", "additionalProperties": False}
KEY_SET = {
    "type": "object",
    "properties": {"keys": {"type": "array", "items": {"type": "object", "required": ["kty", "kid", "alg", "use"]}}},
    "required": ["keys"],
}
LINKS = {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}
FIELD_ERRORS = {
    "type": "object",
    "description": "Messages by field; under `non_field_errors` those that concern no one field.",
    "additionalProperties": {"type": "array", "items": TEXT},
}


def an_error(*codes: str) -> Schema:
    properties = {"detail": TEXT, "code": {"type": "string", "enum": list(codes)}}
    told = {"type": "object", "properties": properties, "required": list(properties)}
    if "second_factor_required" in codes:
        challenge = "With `second_factor_required`: what the answer has to be presented with."
        methods = "With `second_factor_required`: what the account has, of `passkey`, `otp`, `recoveryCode`."
        told["properties"] = {
            **properties,
            "challenge": {**TEXT, "description": challenge},
            "methods": {"type": "array", "items": TEXT, "description": methods},
            "publicKey": {"type": "object", "description": "With `passkey` among the methods: its options."},
        }
    return told


LOOK = ("token_not_valid", "token_expired", "token_revoked")
PROOF = ("invalid_dpop_proof", "use_dpop_nonce")
KEY_OF_LOGIN = ("dpop_proof_required", *PROOF)
KEY_OF_SECOND_STEP = ("dpop_key_mismatch", *PROOF)
KEY_OF_SESSION = ("dpop_proof_required", "dpop_key_mismatch", *PROOF)
ROTATION = (*LOOK, "token_reused", *KEY_OF_SESSION)
GUARD = ("not_authenticated", *ROTATION)


@dataclass(frozen=True)
class Operation:
    name: str
    summary: str
    answers: Mapping[int, Any]
    """The body of each status of success; None is an empty one."""

    errors: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The codes of each status, beside those that follow from the view."""

    request: Any = empty
    parameters: tuple[Any, ...] = ()
    auth: Any = None
    cookie: tuple[int, ...] = ()
    """The statuses that set or clear the cookie."""

    fields: bool = False
    """Whether a parameter's value can be refused, by its name."""

    database: bool = True


OPERATIONS: dict[str, dict[str, Operation]] = {
    "tokens.views.LoginView": {
        "post": Operation(
            "login",
            "Sign in",
            {200: SIGNED_IN},
            {401: ("invalid_credentials", "second_factor_required", *KEY_OF_LOGIN)},
            request=tokens.LoginSerializer,
            cookie=(200,),
        ),
    },
    "tokens.views.SecondStepView": {
        "post": Operation(
            "loginSecondStep",
            "Sign in: the second step",
            {200: SIGNED_IN},
            {401: ("invalid_code", "invalid_passkey", "invalid_challenge", *KEY_OF_SECOND_STEP)},
            request=tokens.SecondStepSerializer,
            cookie=(200,),
        ),
    },
    "tokens.views.SecondStepPairView": {
        "post": Operation(
            "obtainTokensSecondStep",
            "Sign in: the second step (body transport)",
            {200: tokens.SecondStepPairSerializer},
            {401: ("invalid_code", "invalid_passkey", "invalid_challenge", *KEY_OF_SECOND_STEP)},
        ),
    },
    "tokens.views.RefreshView": {
        "post": Operation(
            "refreshAccessToken",
            "Renew the access token",
            {200: REFRESHED},
            {401: ("refresh_token_missing", *ROTATION)},
            request=None,
            auth=COOKIE,
            cookie=(200, 401),
        ),
    },
    "tokens.views.LogoutView": {
        "post": Operation(
            "logout", "Sign out", {204: None}, {401: ("refresh_token_missing",)}, request=None, cookie=(204,)
        ),
    },
    "tokens.views.LogoutAllView": {
        "post": Operation("logoutEverywhere", "Sign out everywhere", {204: None}, request=None, cookie=(204,)),
    },
    "tokens.views.RevokeView": {
        "post": Operation("revokeToken", "Revoke a token (RFC 7009)", {200: None}, request=tokens.TokenSerializer),
    },
    "tokens.views.IntrospectView": {
        "post": Operation(
            "introspectToken",
            "Introspect a token (RFC 7662)",
            {200: INTROSPECTION},
            {401: ("invalid_credentials",), 403: ("permission_denied",)},
            request=tokens.TokenSerializer,
        ),
    },
    "tokens.views.EndedView": {
        "get": Operation(
            "endedSessions",
            "Sessions that ended since the last look",
            {200: ENDED, 304: None},
            {401: ("not_authenticated", "invalid_credentials"), 410: ("cursor_expired",)},
            parameters=(tokens.AfterSerializer,),
            fields=True,
        ),
    },
    "tokens.views.TokenObtainPairView": {
        "post": Operation(
            "obtainTokens",
            "Sign in (body transport)",
            {200: tokens.TokenObtainPairSerializer},
            {401: ("no_active_account", "second_factor_required", *KEY_OF_LOGIN)},
        ),
    },
    "tokens.views.TokenRefreshView": {
        "post": Operation(
            "refreshTokens",
            "Exchange the refresh token (body transport)",
            {200: tokens.TokenRefreshSerializer},
            {401: ROTATION},
        ),
    },
    "tokens.views.TokenVerifyView": {
        "post": Operation("verifyToken", "Verify a token of either kind", {200: EMPTY}, {401: LOOK}),
    },
    "tokens.views.TokenBlacklistView": {
        "post": Operation("blacklistToken", "Sign out (body transport)", {200: EMPTY}, {401: LOOK}),
    },
    "tokens.views.KeySetView": {
        "get": Operation(
            "keySet",
            "The keys that verify access tokens (RFC 7517)",
            {200: KEY_SET, 304: None},
            database=False,
        ),
    },
    "tokens.views.MetadataView": {
        "get": Operation(
            "metadata",
            "What OAuth software finds here (RFC 8414)",
            {200: OpenApiTypes.OBJECT, 304: None},
            database=False,
        ),
    },
    "accounts.views.RegisterView": {
        "post": Operation(
            "register",
            "Register; 202 where the address has to be verified first",
            {201: SIGNED_IN, 202: REGISTERED},
            {401: KEY_OF_LOGIN, 403: ("registration_closed",)},
            cookie=(201,),
        ),
    },
    "accounts.views.ReauthenticationView": {
        "post": Operation(
            "reauthenticate", "Renew the sign-in with the password", {200: REFRESHED}, {429: ("throttled",)}
        ),
    },
    "accounts.views.AccountDeletionView": {
        "post": Operation(
            "deleteAccount",
            "Delete the account",
            {204: None},
            {409: ("account_in_use",), 429: ("throttled",)},
            cookie=(204,),
        ),
    },
    "accounts.views.PasswordChangeView": {
        "post": Operation(
            "changePassword", "Change the password", {200: SUCCEEDED}, {429: ("throttled",)}, cookie=(200,)
        ),
    },
    "accounts.views.PasswordResetRequestView": {
        "post": Operation("requestReset", "Have a reset link mailed", {202: None}),
    },
    "accounts.views.PasswordResetView": {
        "post": Operation("resetPassword", "Set a new password by a mailed link", {204: None}),
    },
    "accounts.views.EmailVerificationView": {
        "post": Operation("verifyEmail", "Verify the address by a mailed link", {204: None}),
    },
    "accounts.views.VerificationRequestView": {
        "post": Operation("requestVerification", "Have a verification link mailed", {202: None}, {429: ("throttled",)}),
    },
    "accounts.views.SecondFactorView": {
        "get": Operation("secondFactor", "See whether there is a second factor", {200: SECOND_FACTOR}),
        "post": Operation(
            "enrolSecondFactor",
            "Begin with a second factor: get its secret",
            {200: ENROLMENT},
            {403: ("email_not_verified",), 429: ("throttled",)},
        ),
    },
    "accounts.views.SecondFactorConfirmationView": {
        "post": Operation(
            "confirmSecondFactor",
            "Enable the second factor by a code",
            {200: RECOVERY_CODES},
            {403: ("email_not_verified",), 429: ("throttled",)},
        ),
    },
    "accounts.views.RecoveryCodesView": {
        "post": Operation(
            "renewRecoveryCodes", "Replace the recovery codes", {200: RECOVERY_CODES}, {429: ("throttled",)}
        ),
    },
    "accounts.views.SecondFactorRemovalView": {
        "post": Operation("removeSecondFactor", "Remove the second factor", {204: None}, {429: ("throttled",)}),
    },
    "accounts.passkeys.RegistrationOptionsView": {
        "post": Operation(
            "passkeyCreationOptions",
            "Get what a new passkey is made with",
            {200: OPTIONS},
            {
                400: ("too_many_passkeys",),
                401: ("reauthentication_required",),
                403: ("email_not_verified",),
                404: ("not_found",),
            },
            request=None,
        ),
    },
    "accounts.passkeys.PasskeysView": {
        "get": Operation("passkeys", "List one's passkeys", {200: PASSKEYS}, {404: ("not_found",)}),
        "post": Operation(
            "addPasskey",
            "Add a passkey",
            {201: NewPasskeyAnswer},
            {400: ("too_many_passkeys",), 401: ("invalid_challenge",), 404: ("not_found",)},
        ),
    },
    "accounts.passkeys.PasskeyView": {
        "patch": Operation(
            "renamePasskey",
            "Rename a passkey",
            {200: passkeys.PasskeySerializer},
            {404: ("not_found",)},
            request=passkeys.PasskeySerializer,
        ),
        "delete": Operation(
            "removePasskey",
            "Remove a passkey",
            {204: None},
            {400: ("last_way_in",), 401: ("reauthentication_required",), 404: ("not_found",)},
        ),
    },
    "accounts.passkeys.OptionsView": {
        "post": Operation(
            "passkeyLoginOptions",
            "Get what a sign-in by passkey is made with",
            {200: OPTIONS},
            {404: ("not_found",)},
            request=None,
        ),
    },
    "accounts.passkeys.PasskeyLoginView": {
        "post": Operation(
            "loginWithPasskey",
            "Sign in with a passkey",
            {200: SIGNED_IN},
            {401: ("invalid_passkey", "unknown_passkey", "invalid_challenge", *KEY_OF_LOGIN), 404: ("not_found",)},
            cookie=(200,),
        ),
    },
    "accounts.passkeys.PairOptionsView": {
        "post": Operation(
            "passkeyOptions",
            "Get what a sign-in by passkey is made with (body transport)",
            {200: OPTIONS},
            {404: ("not_found",)},
            request=None,
        ),
    },
    "accounts.passkeys.PasskeyPairView": {
        "post": Operation(
            "obtainTokensWithPasskey",
            "Sign in with a passkey (body transport)",
            {200: passkeys.PasskeyPairSerializer},
            {401: ("invalid_passkey", "unknown_passkey", "invalid_challenge", *KEY_OF_LOGIN), 404: ("not_found",)},
        ),
    },
    "accounts.passkeys.RenewalOptionsView": {
        "post": Operation(
            "reauthenticationOptions",
            "Get what a sign-in is renewed with by passkey",
            {200: OPTIONS},
            {400: ("no_passkey",), 404: ("not_found",)},
            request=None,
        ),
    },
    "api.views.RootView": {
        "get": Operation("root", "What there is", {200: LINKS}, database=False),
    },
    "api.views.SchemaView": {
        "get": Operation("schema", "This schema", {200: OpenApiTypes.OBJECT}, database=False),
    },
    "api.views.MeView": {
        "get": Operation("me", "See one's account", {200: serializers.MeSerializer}),
        "patch": Operation(
            "changeMe", "Change one's username or address", {200: serializers.MeSerializer}, {429: ("throttled",)}
        ),
    },
    "api.views.SessionViewSet": {
        "list": Operation(
            "sessions", "See where one is signed in", {200: serializers.SessionSerializer}, {404: ("not_found",)}
        ),
        "partial_update": Operation(
            "renameSession", "Name the device of a session", {200: serializers.SessionSerializer}, {404: ("not_found",)}
        ),
        "destroy": Operation("revokeSession", "End one session", {204: None}, {404: ("not_found",)}),
        "revoke_others": Operation("revokeOtherSessions", "End every other session", {200: REVOKED}, request=None),
    },
    "api.views.UserViewSet": {
        "list": Operation(
            "users",
            "List the users",
            {200: serializers.UserSerializer},
            {403: ("permission_denied",), 404: ("not_found",)},
            fields=True,
        ),
        "retrieve": Operation(
            "user",
            "See a user",
            {200: serializers.UserSerializer},
            {403: ("permission_denied",), 404: ("not_found",)},
        ),
        "partial_update": Operation(
            "changeUser",
            "Deactivate or reactivate a user",
            {200: serializers.UserSerializer},
            {403: ("permission_denied",), 404: ("not_found",)},
        ),
        "revoke_sessions": Operation(
            "revokeUserSessions",
            "End a user's sessions",
            {200: REVOKED},
            {403: ("permission_denied",), 404: ("not_found",)},
            request=None,
        ),
        "send_password_reset": Operation(
            "sendPasswordReset",
            "Mail a user a link to choose a new password",
            {202: None},
            {
                400: ("no_reset_possible",),
                403: ("permission_denied",),
                404: ("not_found",),
                429: ("throttled",),
            },
            request=None,
        ),
    },
    "api.views.SecurityEventViewSet": {
        "list": Operation(
            "securityEvents",
            "Read the security log",
            {200: serializers.SecurityEventSerializer},
            {403: ("permission_denied",), 404: ("not_found",)},
            parameters=(serializers.LogSerializer,),
            fields=True,
        ),
    },
    "api.health.LiveView": {
        "get": Operation("live", "Whether the process lives", {200: STATUS}, database=False),
    },
    "api.health.ReadyView": {
        "get": Operation("ready", "Whether the database answers", {200: STATUS}),
    },
}

# How it gets into the schema


class Annotated(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Every view of the API, with what is said of it above."""

    target_class = "rest_framework.views.APIView"
    match_subclasses = True

    def view_replacement(self) -> type[APIView]:
        view: type[APIView] = self.target
        told = OPERATIONS.get(f"{view.__module__}.{view.__name__}", {})
        # The cookie of the pages is for the pages alone.
        schemes = [scheme for scheme in view.authentication_classes if issubclass(scheme, FOR_PROGRAMS)]
        annotated = type(view.__name__, (view,), {"authentication_classes": schemes})
        return extend_schema_view(**{name: annotate(view, name, operation) for name, operation in told.items()})(
            annotated
        )


def annotate(view: type[APIView], action: str, operation: Operation) -> Any:
    reads_body = action in ("post", "patch", "partial_update") and operation.request is not None
    codes = defaultdict(list, {status: list(known) for status, known in operation.errors.items()})
    if any(issubclass(scheme, JWTAuthentication) for scheme in view.authentication_classes):
        codes[401][:0] = GUARD
    if issubclass(view, AuthView):
        codes[403].append("cross_site_request")
    if reads_body:
        codes[400].append("parse_error")
        codes[413].append("too_large")
        codes[415].append("unsupported_media_type")
    if getattr(view, "throttle_scope", None):
        codes[429] = ["throttled"]
    if operation.database:
        codes[503].append("unavailable")
    errors: dict[int, Any] = {status: an_error(*known) for status, known in codes.items()}
    if reads_body or operation.fields:
        errors[400] = {"oneOf": [FIELD_ERRORS, errors[400]]} if 400 in errors else FIELD_ERRORS
    answers = dict(sorted({**operation.answers, **errors}.items()))
    return extend_schema(
        operation_id=operation.name,
        summary=operation.summary,
        parameters=[*operation.parameters, *headers_of(view, operation, answers, codes.get(401, ()))],
        request=operation.request,
        responses={
            status: OpenApiResponse(body, description=HTTPStatus(status).phrase) for status, body in answers.items()
        },
        auth=operation.auth,
    )


def headers_of(
    view: type[APIView], operation: Operation, statuses: Iterable[int], codes: Iterable[str]
) -> list[OpenApiParameter]:
    told: list[tuple[str, str, Iterable[int]]] = [
        ("WWW-Authenticate", 'With `error="invalid_token"` where a token was presented.', (401,)),
        ("Retry-After", "Seconds.", (429, 503)),
        ("Set-Cookie", "The refresh token; empty and expired where it is cleared.", operation.cookie),
    ]
    if issubclass(view, (TokenView, HealthView)):
        told.append(("Cache-Control", "`no-store`", statuses))
    if issubclass(view, PublishedView):
        told.append(("Cache-Control", f"`max-age={KEY_SET_MAX_AGE}, public`", statuses))
    if 304 in operation.answers:
        told.append(("ETag", "To ask by `If-None-Match` whether it has changed.", operation.answers))
    if "use_dpop_nonce" in codes:
        told.append(("DPoP-Nonce", "The nonce for the next proof of a key.", statuses))
    return [
        OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=response)
        for name, description, where in told
        if (response := sorted(set(where).intersection(statuses)))
    ]


_lock = Lock()


def schema() -> Schema:
    """Return the schema, which is made once a process; drf-spectacular's generator is not safe among threads."""
    with _lock:
        return _schema()


@cache
def _schema() -> Schema:
    with translation.override(settings.LANGUAGE_CODE):  # and not in the language of whoever is first to ask
        made: Schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return made
