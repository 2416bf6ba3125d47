"""The endpoints of passkeys. The factor behind them is `factors/passkeys.py`."""

from typing import Any, ClassVar, cast

from django.conf import settings
from django.urls import path
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers, status
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tokens.domain.client import Client
from tokens.exceptions import AnswerNotValid, ChallengeNotValid
from tokens.http.fields import TokenField
from tokens.http.operations import KEY_OF_LOGIN, OWN, Operation
from tokens.http.requests import client_of
from tokens.jose.compact import encode
from tokens.models import Session
from tokens.permissions import RecentSignIn
from tokens.responses import SignedIn
from tokens.serializers import (
    ChallengeField,
    CredentialField,
    DeviceNameField,
    PairSerializer,
    RememberField,
    UseCaseSerializer,
    claims_set_in,
    login_succeeded,
    obtain_serializer,
)
from tokens.tokens import AccessToken
from tokens.views import LoginView, TokenView, TokenViewBase

from .factors import managing_passkeys, passkeys
from .factors.managing_passkeys import LastWayIn, TooManyPasskeys
from .factors.passkeys import NoPasskey
from .models import Passkey, User
from .responses import PasskeyOptions
from .serializers import EndOthersField
from .views import NotPossible, SettingUpView

NAME_LENGTH = 64

CREDENTIAL = {"id": "AbC…", "rawId": "AbC…", "type": "public-key"}
"""What a passkey's response in an example has, whatever it answers."""

LOGIN_ERRORS = {
    401: ("invalid_passkey", "unknown_passkey", "invalid_challenge", *KEY_OF_LOGIN),
    404: ("not_found",),
}


class PasskeyNameField(serializers.CharField):
    """The owner's name for a passkey."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=NAME_LENGTH, **kwargs)


class PasskeySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(read_only=True)
    name = PasskeyNameField()
    createdAt = serializers.DateTimeField(source="created_at", read_only=True)  # noqa: N815
    lastUsedAt = serializers.DateTimeField(source="last_used_at", read_only=True, allow_null=True)  # noqa: N815
    backedUp = serializers.BooleanField(source="backed_up", read_only=True)  # noqa: N815
    synced = serializers.BooleanField(read_only=True)
    transports = serializers.ListField(child=serializers.CharField(), read_only=True)
    example = {"name": "The old laptop"}


class ListedPasskeySerializer(PasskeySerializer):
    credentialId = serializers.SerializerMethodField()  # noqa: N815

    def get_credentialId(self, passkey: Passkey) -> str:  # noqa: N802
        return encode(bytes(passkey.credential_id))


class PasskeysSerializer(serializers.Serializer[Any]):
    rpId = serializers.CharField(  # noqa: N815
        help_text=_("For `signalAllAcceptedCredentials`, together with `userId`.")
    )
    userId = serializers.CharField()  # noqa: N815
    results = ListedPasskeySerializer(many=True)


class NewPasskeyAnswer(PasskeySerializer):
    recoveryCodes = serializers.ListField(  # noqa: N815
        child=serializers.CharField(), required=False, help_text=_("Only if this is the account's only second factor.")
    )


class NewPasskeySerializer(UseCaseSerializer):
    challenge = ChallengeField()
    credential = CredentialField()
    name = PasskeyNameField(required=False)
    endOtherSessions = EndOthersField()  # noqa: N815
    example = {
        "challenge": "eyJ…",
        "credential": {**CREDENTIAL, "response": {"clientDataJSON": "eyJ…", "attestationObject": "o2N…"}},
        "name": "My laptop",
    }

    def perform(self, client: Client, **values: Any) -> tuple[Passkey, list[str] | None]:
        session = cast(AccessToken, self.context["request"].auth).session
        try:
            return managing_passkeys.register(session, **values, client=client)
        except TooManyPasskeys as error:
            raise NotPossible(error) from error


class PasskeyLoginSerializer(UseCaseSerializer):
    """The answer to the options of a login. It has no user name: the passkey identifies the user."""

    challenge = ChallengeField()
    credential = CredentialField()
    remember = RememberField()
    deviceName = DeviceNameField(source="device_name", default="")  # noqa: N815
    example = {
        "challenge": "eyJ…",
        "credential": {
            **CREDENTIAL,
            "response": {"clientDataJSON": "eyJ…", "authenticatorData": "SZY…", "signature": "MEU…"},
        },
    }

    def perform(self, client: Client, **values: Any) -> Session:
        try:
            session = passkeys.sign_in_with_passkey(
                values["challenge"],
                values["credential"],
                client,
                self.terms(values),
                claims_set_in(obtain_serializer()),
                former=self.context.get("former"),
            )
        except (AnswerNotValid, ChallengeNotValid) as error:
            raise AuthenticationFailed(error.message, error.code) from error
        login_succeeded(session.user, self.request)
        return session


class PasskeyPairSerializer(PairSerializer, PasskeyLoginSerializer):
    refresh = TokenField(read_only=True)
    access = TokenField(read_only=True)


class WithPasskeys(TokenView):
    """A view that answers 404 if passkeys are off."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not passkeys.usable():
            raise NotFound
        super().initial(request, *args, **kwargs)


class OptionsView(WithPasskeys, LoginView):
    """The options of a login, the same for everybody."""

    operations = {
        "post": Operation(
            "passkeyLoginOptions",
            "Get the options for signing in with a passkey",
            {200: PasskeyOptions},
            {404: ("not_found",)},
            request=None,
        ),
    }

    def post(self, request: Request) -> Response:
        return Response(passkeys.login_options())


class PasskeyLoginView(WithPasskeys, LoginView):
    serializer_class: ClassVar[type[UseCaseSerializer]] = PasskeyLoginSerializer
    operations = {
        "post": Operation("loginWithPasskey", "Sign in with a passkey", {200: SignedIn}, LOGIN_ERRORS, cookie=(200,)),
    }


class PairOptionsView(WithPasskeys, TokenViewBase):
    throttle_scope = "login"
    operations = {
        "post": Operation(
            "passkeyOptions",
            "Get the options for signing in with a passkey (body transport)",
            {200: PasskeyOptions},
            {404: ("not_found",)},
            request=None,
        ),
    }

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(passkeys.login_options())


class PasskeyPairView(WithPasskeys, TokenViewBase):
    throttle_scope = "login"
    serializer_class = PasskeyPairSerializer
    operations = {
        "post": Operation(
            "obtainTokensWithPasskey", "Sign in with a passkey (body transport)", {200: OWN}, LOGIN_ERRORS
        ),
    }


class OwnersPasskeyView(WithPasskeys, SettingUpView):
    @property
    def session(self) -> Session:
        return cast(AccessToken, self.request.auth).session


class RegistrationOptionsView(OwnersPasskeyView):
    permission_classes = (RecentSignIn,)
    operations = {
        "post": Operation(
            "passkeyCreationOptions",
            "Get the options for a new passkey",
            {200: PasskeyOptions},
            {
                400: ("too_many_passkeys",),
                401: ("reauthentication_required",),
                403: ("email_not_verified",),
                404: ("not_found",),
            },
            request=None,
        ),
    }

    def post(self, request: Request) -> Response:
        try:
            return Response(managing_passkeys.registration_options(self.session))
        except TooManyPasskeys as error:
            raise NotPossible(error) from error


class PasskeysView(OwnersPasskeyView):
    serializer_class: ClassVar[type[UseCaseSerializer]] = NewPasskeySerializer
    operations = {
        "get": Operation("passkeys", "List your passkeys", {200: PasskeysSerializer}, {404: ("not_found",)}),
        "post": Operation(
            "addPasskey",
            "Add a passkey",
            {201: NewPasskeyAnswer},
            {
                400: ("too_many_passkeys",),
                401: ("invalid_challenge",),
                403: ("email_not_verified",),
                404: ("not_found",),
            },
        ),
    }

    def get(self, request: Request) -> Response:
        user = cast(User, request.user)
        rows = ListedPasskeySerializer(user.passkeys.order_by("pk"), many=True)
        handle = encode(bytes(user.passkey_handle))
        return Response({"rpId": settings.PASSKEY_RP_ID, "userId": handle, "results": rows.data})

    def respond(self, result: tuple[Passkey, list[str] | None]) -> Response:
        passkey, recovery_codes = result
        body = dict(PasskeySerializer(passkey).data)
        if recovery_codes is not None:
            body["recoveryCodes"] = recovery_codes
        return Response(body, status.HTTP_201_CREATED)


class PasskeyView(OwnersPasskeyView):
    http_method_names = ("patch", "delete", "options")
    operations = {
        "patch": Operation(
            "renamePasskey",
            "Rename a passkey",
            {200: PasskeySerializer},
            {404: ("not_found",)},
            request=PasskeySerializer,
        ),
        "delete": Operation(
            "removePasskey",
            "Remove a passkey",
            {204: None},
            {400: ("last_way_in",), 401: ("reauthentication_required",), 404: ("not_found",)},
        ),
    }

    def get_permissions(self) -> Any:
        return [RecentSignIn()] if self.request.method == "DELETE" else super().get_permissions()

    def patch(self, request: Request, pk: Any) -> Response:
        serializer = PasskeySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        passkey = managing_passkeys.rename(cast(User, request.user), pk, serializer.validated_data["name"])
        if passkey is None:
            raise NotFound
        return Response(PasskeySerializer(passkey).data)

    def delete(self, request: Request, pk: Any) -> Response:
        try:
            if not managing_passkeys.drop(self.session, pk, client_of(request)):
                raise NotFound
        except LastWayIn as error:
            raise NotPossible(error) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class RenewalOptionsView(OwnersPasskeyView):
    operations = {
        "post": Operation(
            "reauthenticationOptions",
            "Get the options for renewing the sign-in with a passkey",
            {200: PasskeyOptions},
            {400: ("no_passkey",), 404: ("not_found",)},
            request=None,
        ),
    }

    def post(self, request: Request) -> Response:
        try:
            return Response(passkeys.renewal_options(cast(User, request.user)))
        except NoPasskey as error:
            raise NotPossible(error) from error


urlpatterns = [
    path("auth/passkeys", PasskeysView.as_view(), name="passkeys"),
    path("auth/passkeys/options", RegistrationOptionsView.as_view(), name="passkey_options"),
    path("auth/passkeys/<uuid:pk>", PasskeyView.as_view(), name="passkey"),
    path("auth/login/passkey/options", OptionsView.as_view(), name="passkey_login_options"),
    path("auth/login/passkey", PasskeyLoginView.as_view(), name="passkey_login"),
    path("auth/reauthenticate/options", RenewalOptionsView.as_view(), name="reauthentication_options"),
    path("api/token/passkey/options/", PairOptionsView.as_view(), name="passkey_pair_options"),
    path("api/token/passkey/", PasskeyPairView.as_view(), name="passkey_pair"),
]
