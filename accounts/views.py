from typing import ClassVar, cast

import segno
from django.conf import settings
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from tokens.authentication import JWTAuthentication
from tokens.http import cookies
from tokens.http.operations import KEY_OF_LOGIN, Operation
from tokens.http.refusals import ReauthenticationRequired
from tokens.models import Session
from tokens.responses import Refreshed, SignedIn, Succeeded
from tokens.serializers import UseCaseSerializer
from tokens.tokens import AccessToken
from tokens.views import AuthView, SignInView, UseCaseView, renewed, signed_in, succeeded

from . import responses, serializers
from .factors import second_factor
from .factors.managing_passkeys import LastWayIn, TooManyPasskeys
from .factors.passkeys import NoPasskey
from .factors.second_factor import EmailNotVerified, NoPassword
from .models import User
from .owner import deletion

TOO_OLD = ReauthenticationRequired.default_code
"""Error code for accounts without a password, in place of an error about the password."""

REFUSED_ANSWER = ("invalid_passkey", "invalid_challenge")
"""The codes of a refused passkey, wherever one is accepted instead of a code."""


class RegistrationClosed(PermissionDenied):
    default_detail = _("Registration is closed.")
    default_code = "registration_closed"


class NotPossible(APIException):
    """The account's state does not allow it."""

    status_code = status.HTTP_400_BAD_REQUEST

    def __init__(self, refusal: TooManyPasskeys | NoPasskey | LastWayIn | NoPassword) -> None:
        super().__init__(refusal.message, refusal.code)


class OwnersView(UseCaseView):
    """A use case of a signed-in user."""

    authentication_classes = (JWTAuthentication,)
    permission_classes = (IsAuthenticated,)


class RegisterView(SignInView):
    throttle_scope = "register"
    serializer_class = serializers.RegistrationSerializer
    awaiting = _(
        "Check your email and open the link to confirm your address; then you can sign in. If the email does not "
        "arrive or the link has expired, reset your password, which also confirms your address."
    )
    """The answer to a registration that has to be verified first, whether or not the address was known."""

    operations = {
        "post": Operation(
            "register",
            "Register; 202 if the address must be verified first",
            {201: SignedIn, 202: responses.Registered},
            {401: KEY_OF_LOGIN, 403: ("registration_closed",)},
            cookie=(201,),
        ),
    }

    def post(self, request: Request) -> Response:
        if not settings.REGISTRATION_OPEN:
            raise RegistrationClosed
        return super().post(request)

    def respond(self, result: Session | None) -> Response:
        if result is None:
            return Response({"detail": self.awaiting}, status.HTTP_202_ACCEPTED)
        return signed_in(result, status.HTTP_201_CREATED)


class PasswordView(AuthView):
    """Return whether the account has a password, so a page asks for one only if there is one."""

    authentication_classes = (JWTAuthentication,)
    permission_classes = (IsAuthenticated,)
    operations = {"get": Operation("password", "Check whether the account has a password", {200: responses.Password})}

    def get(self, request: Request) -> Response:
        return Response({"hasPassword": cast(User, request.user).has_usable_password()})


class PasswordChangeView(OwnersView):
    """Change the password. The caller continues in a new session. Its tokens come the way the old ones did."""

    serializer_class = serializers.PasswordChangeSerializer
    operations = {
        "post": Operation(
            "changePassword",
            "Change the password",
            {200: Succeeded},
            {401: (TOO_OLD,), 429: ("throttled",)},
            cookie=(200,),
        ),
    }

    def get_authenticators(self) -> list[BaseAuthentication]:
        guard = JWTAuthentication()
        guard.confirms = False  # the request is still refused if a refresh token is of another session
        return [guard]

    def respond(self, result: Session) -> Response:
        return succeeded(self.request, result)


class ReauthenticationView(OwnersView):
    serializer_class = serializers.ReauthenticationSerializer
    operations = {
        "post": Operation(
            "reauthenticate",
            "Renew the sign-in with the password or a passkey",
            {200: Refreshed},
            {400: ("no_password",), 401: REFUSED_ANSWER, 429: ("throttled",)},
        ),
    }

    def post(self, request: Request) -> Response:
        try:
            return super().post(request)
        except NoPassword as error:
            raise NotPossible(error) from error

    def respond(self, result: None) -> Response:
        return renewed(cast(AccessToken, self.request.auth))


class AccountInUse(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = _("The account can't be deleted, because other data depends on it.")
    default_code = "account_in_use"


class AccountDeletionView(OwnersView):
    serializer_class = serializers.DeletionSerializer
    operations = {
        "post": Operation(
            "deleteAccount",
            "Delete the account",
            {204: None},
            {401: (TOO_OLD, *REFUSED_ANSWER), 409: ("account_in_use",), 429: ("throttled",)},
            cookie=(204,),
        ),
    }

    def post(self, request: Request) -> Response:
        try:
            return super().post(request)
        except deletion.AccountInUse as error:
            raise AccountInUse from error

    def respond(self, result: None) -> Response:
        response = super().respond(result)
        cookies.clear(response)
        return response


class PasswordResetRequestView(UseCaseView):
    throttle_scope = "mail"
    serializer_class = serializers.ResetRequestSerializer
    success = status.HTTP_202_ACCEPTED
    operations = {"post": Operation("requestReset", "Request a password reset link", {202: None})}


class PasswordResetLinkView(UseCaseView):
    """Check the link without using it, since mail scanners open links too."""

    serializer_class = serializers.ResetLinkSerializer
    operations = {"post": Operation("checkResetLink", "Check a password reset link without using it", {204: None})}


class PasswordResetView(UseCaseView):
    serializer_class = serializers.ResetSerializer
    operations = {"post": Operation("resetPassword", "Set a new password with a mailed link", {204: None})}


class VerificationLinkView(UseCaseView):
    """Check the link without using it."""

    serializer_class = serializers.VerificationLinkSerializer
    operations = {"post": Operation("checkVerificationLink", "Check a verification link without using it", {204: None})}


class EmailVerificationView(UseCaseView):
    serializer_class = serializers.VerificationSerializer
    operations = {"post": Operation("verifyEmail", "Verify the address with a mailed link", {204: None})}


class VerificationRequestView(OwnersView):
    throttle_scope = "mail"
    serializer_class = serializers.ResendSerializer
    success = status.HTTP_202_ACCEPTED
    operations = {
        "post": Operation("requestVerification", "Request a verification link", {202: None}, {429: ("throttled",)}),
    }


class UnverifiedAddress(PermissionDenied):
    default_detail = EmailNotVerified.message
    default_code = EmailNotVerified.code


class SettingUpView(OwnersView):
    """A view that sets up a second factor, which needs a verified address."""

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(UnverifiedAddress() if isinstance(exc, EmailNotVerified) else exc)


class SecondFactorView(SettingUpView):
    """Show whether there is a second factor, or give the secret for a new one."""

    serializer_class = serializers.EnrolmentSerializer
    operations = {
        "get": Operation("secondFactor", "Get the state of two-factor authentication", {200: responses.SecondFactor}),
        "post": Operation(
            "enrolSecondFactor",
            "Set up two-factor authentication: get the secret",
            {200: responses.SecondFactorSecret},
            {401: (TOO_OLD,), 403: ("email_not_verified",), 429: ("throttled",)},
        ),
    }

    def get(self, request: Request) -> Response:
        status = second_factor.status(cast(User, request.user))
        return Response(
            {
                "enabled": status.enabled_at is not None,
                "enabledAt": status.enabled_at,
                "recoveryCodesLeft": status.recovery_codes_left,
                "passkeys": status.passkeys,
            }
        )

    def respond(self, result: tuple[str, str]) -> Response:
        secret, uri = result
        # With a light background, which scanners need.
        picture = segno.make_qr(uri).svg_data_uri(scale=4, light="white")
        return Response({"secret": secret, "otpauthUri": uri, "qrCode": picture})


class RecoveryCodesView(OwnersView):
    """Give recovery codes. They are shown in this answer, and never again."""

    serializer_class: ClassVar[type[UseCaseSerializer]] = serializers.RecoveryCodesSerializer
    operations = {
        "post": Operation(
            "renewRecoveryCodes",
            "Replace the recovery codes",
            {200: responses.IssuedRecoveryCodes},
            {401: (TOO_OLD, *REFUSED_ANSWER), 429: ("throttled",)},
        ),
    }

    def respond(self, result: list[str] | None) -> Response:
        return Response({} if result is None else {"recoveryCodes": result})


class SecondFactorConfirmationView(SettingUpView, RecoveryCodesView):
    serializer_class = serializers.ConfirmationSerializer
    operations = {
        "post": Operation(
            "confirmSecondFactor",
            "Turn on two-factor authentication with a code",
            {200: responses.IssuedRecoveryCodes},
            {403: ("email_not_verified",), 429: ("throttled",)},
        ),
    }


class SecondFactorRemovalView(OwnersView):
    serializer_class = serializers.RemovalSerializer
    operations = {
        "post": Operation(
            "removeSecondFactor",
            "Turn off two-factor authentication",
            {204: None},
            {401: (TOO_OLD, *REFUSED_ANSWER), 429: ("throttled",)},
        )
    }
