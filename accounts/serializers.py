from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from tokens.credentials import confirm
from tokens.domain.sessions import Client
from tokens.exceptions import NoActiveAccount
from tokens.http.requests import client_of
from tokens.models import Session
from tokens.serializers import PasswordField, RememberField, pair

from .factors import second_factor
from .factors.second_factor import ChallengeNotValid, CodeNotValid
from .owner import address, deletion, password, registration


class CurrentPasswordField(PasswordField):
    """The password of whoever asks."""

    default_error_messages = {"wrong_password": _("This is not your password.")}

    def run_validators(self, value: Any) -> None:
        super().run_validators(value)
        if not confirm(self.context["request"]._request, value):
            self.fail("wrong_password")


class UseCaseSerializer(serializers.Serializer[Any]):
    """The input of a use case of `credentials`; what that refuses is told by field, in the names of the wire."""

    def perform(self, client: Client, **values: Any) -> Any:
        raise NotImplementedError

    def save(self, **kwargs: Any) -> Any:
        try:
            return self.perform(client_of(self.context["request"]), **self.validated_data)
        except DjangoValidationError as error:
            wire_names = {field.source: name for name, field in self.fields.items()}
            detail = serializers.as_serializer_error(error)
            raise ValidationError(
                {wire_names.get(name, name): messages for name, messages in detail.items()}
            ) from error


class RegistrationSerializer(UseCaseSerializer):
    username = serializers.CharField(trim_whitespace=False)
    password = PasswordField()
    email = serializers.EmailField(
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text=_("Required where addresses have to be verified."),
    )
    remember = RememberField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if settings.EMAIL_VERIFICATION_REQUIRED and not attrs.get("email"):
            raise ValidationError({"email": [self.fields["email"].error_messages["required"]]}, "required")
        return attrs

    def perform(self, client: Client, **values: Any) -> Session | None:
        if settings.EMAIL_VERIFICATION_REQUIRED:
            del values["remembered"]  # no session begins
            registration.register_unverified(**values, client=client)
            return None
        return registration.register(**values, client=client)


class PasswordChangeSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    newPassword = PasswordField(source="new_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        session = self.context["request"].auth.session
        password.change_password(session, values["new_password"], client)


class DeletionSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        deletion.delete_account(self.context["request"].user, client)


class ResetRequestSerializer(UseCaseSerializer):
    email = serializers.EmailField(max_length=254)

    def perform(self, client: Client, **values: Any) -> None:
        password.request_reset(**values)


class ResetSerializer(UseCaseSerializer):
    uid = serializers.CharField()
    token = serializers.CharField()
    newPassword = PasswordField(source="new_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        password.reset_password(**values, client=client)


class VerificationSerializer(UseCaseSerializer):
    uid = serializers.CharField()
    token = serializers.CharField()

    def perform(self, client: Client, **values: Any) -> None:
        address.verify_email(**values, client=client)


class ResendSerializer(UseCaseSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        address.request_verification(self.context["request"].user)


class CodeField(serializers.CharField):
    """A code of the second factor: a time-based one or a recovery code."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, max_length=second_factor.CODE_LENGTH, **kwargs)


class ReauthenticationSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    code = CodeField(default="")

    def perform(self, client: Client, **values: Any) -> None:
        second_factor.reauthenticate(self.context["request"].auth.session, values["code"], client)


class EnrolmentSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> tuple[str, str]:
        return second_factor.enrol(self.context["request"].auth.session)


class ConfirmationSerializer(UseCaseSerializer):
    code = CodeField()

    def perform(self, client: Client, **values: Any) -> list[str]:
        return second_factor.confirm(self.context["request"].auth.session, values["code"], client)


class RecoveryCodesSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    code = CodeField()

    def perform(self, client: Client, **values: Any) -> list[str]:
        return second_factor.renew_recovery_codes(self.context["request"].auth.session, values["code"], client)


class RemovalSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    code = CodeField()

    def perform(self, client: Client, **values: Any) -> None:
        second_factor.remove(self.context["request"].auth.session, values["code"], client)


class SecondStepSerializer(serializers.Serializer[Any]):
    """Judge a code, and start the session that it opens together with the password."""

    challenge = serializers.CharField(write_only=True, max_length=1000)
    code = CodeField()
    session: Session

    default_error_messages = {"invalid_code": CodeNotValid.text, "invalid_challenge": ChallengeNotValid.text}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        try:
            self.session = second_factor.sign_in(**attrs, client=client_of(self.context["request"]))
        except CodeNotValid as error:
            raise self._refused("invalid_code") from error
        except (ChallengeNotValid, NoActiveAccount) as error:
            raise self._refused("invalid_challenge") from error
        return {}

    def _refused(self, code: str) -> AuthenticationFailed:
        return AuthenticationFailed(self.error_messages[code], code)


class SecondStepPairSerializer(SecondStepSerializer):
    refresh = serializers.CharField(read_only=True)
    access = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        super().validate(attrs)
        return pair(self.session)
