from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.exceptions import TokenNotValid
from tokens.http import cookies
from tokens.http.cookies import RefreshTokenMissing
from tokens.http.fields import TokenField
from tokens.models import Session
from tokens.serializers import (
    ChallengeField,
    CodeField,
    CredentialField,
    DeviceNameField,
    PasswordField,
    RememberField,
    SwitchField,
    UseCaseSerializer,
)
from tokens.tokens import RefreshToken

from . import names
from .factors import second_factor
from .mail import links
from .models import User
from .owner import address, deletion, password, registration
from .owner.validation import validate_account


class RegistrationSerializer(UseCaseSerializer):
    username = serializers.CharField(max_length=names.LENGTH)
    password = PasswordField()
    email = serializers.EmailField(
        max_length=names.LENGTH,
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text=_("Required if the server verifies email addresses."),
    )
    remember = RememberField()
    deviceName = DeviceNameField(source="device_name", default="", write_only=True)  # noqa: N815
    example = {"username": "ada", "password": "the analytical engine", "email": "ada@example.com"}

    def to_internal_value(self, data: Any) -> Any:
        """Report all errors at once, including those of the domain for the fields that are valid so far."""
        try:
            return super().to_internal_value(data)
        except ValidationError as error:
            if isinstance(data, Mapping) and isinstance(error.detail, dict):
                raise ValidationError({**self._check_rest(data, error.detail), **error.detail}) from error
            raise

    def _check_rest(self, data: Mapping[str, Any], refused: Mapping[str, Any]) -> dict[str, Any]:
        read = {"username": "", "email": "", "password": ""}
        for name in read.keys() - refused.keys():
            with suppress(serializers.SkipField):
                read[name] = self.fields[name].run_validation(self.fields[name].get_value(data)) or ""
        undisclosed = ["email"] if settings.EMAIL_VERIFICATION_REQUIRED else []
        try:
            validate_account(User(username=read["username"], email=read["email"]), read["password"], undisclosed)
        except DjangoValidationError as error:
            return dict(serializers.as_serializer_error(error))
        return {}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if settings.EMAIL_VERIFICATION_REQUIRED and not attrs.get("email"):
            raise ValidationError({"email": [self.fields["email"].error_messages["required"]]}, "required")
        return attrs

    def perform(self, client: Client, **values: Any) -> Session | None:
        account = {name: value for name, value in values.items() if name not in ("remembered", "device_name")}
        if settings.EMAIL_VERIFICATION_REQUIRED:
            registration.register_unverified(**account, client=client)
            return None
        return registration.register(
            **account, client=client, terms=self.terms(values), former=self.context.get("former")
        )


class CurrentPasswordField(PasswordField):
    """The caller's password. It can be left out: an account without one needs a recent sign-in instead."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, default=None, **kwargs)


class PasswordChangeSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    newPassword = PasswordField(source="new_password")  # noqa: N815
    refresh = TokenField(required=False, allow_null=True, write_only=True)
    example = {"currentPassword": "the analytical engine", "newPassword": "the difference engine"}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check that each refresh token in the request belongs to the session, in any generation."""
        request, in_body = self.context["request"], attrs.pop("refresh", None)
        tokens = [] if in_body is None else [in_body]
        with suppress(RefreshTokenMissing):
            tokens.append(cookies.read(request))
        for token in tokens:
            if not sessions.belongs(RefreshToken.claims(token), request.auth.session):
                raise TokenNotValid
        return attrs

    def perform(self, client: Client, **values: Any) -> Session:
        return password.change_password(self.context["request"].auth.session, **values, client=client)


class AnsweredSerializer(UseCaseSerializer):
    """The input of a use case that requires the second factor, if the user has one."""

    code = CodeField(required=False)
    challenge = ChallengeField(
        required=False, help_text=_("The challenge from `/auth/reauthenticate/options`. Send it with the credential.")
    )
    credential = CredentialField(
        required=False, write_only=True, help_text=_("The passkey's response. Send it instead of a code.")
    )
    example = {"currentPassword": "the analytical engine"}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Build the answer from its fields: a code, or a credential with its challenge."""
        code, challenge, credential = (attrs.pop(name, None) for name in ("code", "challenge", "credential"))
        if credential is None:
            answer = {} if code is None else {"code": code}
        elif challenge is None:
            raise ValidationError({"challenge": [self.fields["challenge"].error_messages["required"]]}, "required")
        else:
            answer = {"credential": credential, "renewal": challenge}
        return {**attrs, "answer": answer}


class EndOthersField(SwitchField):
    """Whether to end the user's other sessions."""

    def __init__(self) -> None:
        super().__init__(write_only=True, default=False, source="end_others")


class DeletionSerializer(AnsweredSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        deletion.delete_account(self.context["request"].auth.session, **values, client=client)


class ResetRequestSerializer(UseCaseSerializer):
    email = serializers.EmailField(max_length=254)
    example = {"email": "ada@example.com"}

    def perform(self, client: Client, **values: Any) -> None:
        password.request_reset(**values)


class LinkSerializer(UseCaseSerializer):
    """What a mailed link carries."""

    uid = serializers.CharField(max_length=links.LENGTH)
    token = serializers.CharField(max_length=links.LENGTH)
    example = {"uid": "MQ", "token": "d7x0q4-…"}


class ResetLinkSerializer(LinkSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        links.reset_password.open(**values)


class ResetSerializer(LinkSerializer):
    newPassword = PasswordField(source="new_password")  # noqa: N815
    example = {**LinkSerializer.example, "newPassword": "the analytical engine"}

    def perform(self, client: Client, **values: Any) -> None:
        password.reset_password(**values, client=client)


class VerificationLinkSerializer(LinkSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        links.verify_email.open(**values)


class VerificationSerializer(LinkSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        address.verify_email(**values, client=client)


class ResendSerializer(UseCaseSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        address.request_verification(self.context["request"].user)


class ReauthenticationSerializer(AnsweredSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        second_factor.reauthenticate(self.context["request"].auth.session, **values, client=client)


class EnrolmentSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    example = AnsweredSerializer.example

    def perform(self, client: Client, **values: Any) -> tuple[str, str]:
        return second_factor.enrol(self.context["request"].auth.session, **values, client=client)


class ConfirmationSerializer(UseCaseSerializer):
    code = CodeField()
    endOtherSessions = EndOthersField()  # noqa: N815
    example = {"code": "123456"}

    def perform(self, client: Client, **values: Any) -> list[str] | None:
        return second_factor.enable(self.context["request"].auth.session, **values, client=client)


class RecoveryCodesSerializer(AnsweredSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    example = {"currentPassword": "the analytical engine", "code": "123456"}

    def perform(self, client: Client, **values: Any) -> list[str]:
        return second_factor.renew_recovery_codes(self.context["request"].auth.session, **values, client=client)


class RemovalSerializer(AnsweredSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    endOtherSessions = EndOthersField()  # noqa: N815
    example = RecoveryCodesSerializer.example

    def perform(self, client: Client, **values: Any) -> None:
        second_factor.remove(self.context["request"].auth.session, **values, client=client)
