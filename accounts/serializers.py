from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from tokens import limits
from tokens.models import Session
from tokens.requests import client_of
from tokens.serializers import PasswordField
from tokens.sessions import Client

from . import credentials, names


class CurrentPasswordField(PasswordField):
    """The password of whoever asks. A wrong one is a guess like any other, and logged as one."""

    default_error_messages = {"wrong_password": _("This is not your password.")}

    def run_validators(self, value: Any) -> None:
        super().run_validators(value)
        request = self.context["request"]
        bucket = ("password", str(request.user.pk))
        limits.spend(*bucket)
        if not request.user.check_password(value):
            user_login_failed.send(
                sender=__name__,
                credentials={"username": request.user.get_username()},
                request=request._request,
            )
            self.fail("wrong_password")
        limits.clear(bucket)


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
    email = serializers.EmailField(required=False, allow_blank=True, allow_null=True)

    def perform(self, client: Client, **values: Any) -> Session:
        return credentials.register(**values, client=client)


class PasswordChangeSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815
    newPassword = PasswordField(source="new_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        session = self.context["request"].auth.session
        credentials.change_password(session, values["new_password"], client)


class DeletionSerializer(UseCaseSerializer):
    currentPassword = CurrentPasswordField(source="current_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        credentials.delete_account(self.context["request"].user, client)


class ResetRequestSerializer(UseCaseSerializer):
    email = serializers.EmailField(max_length=254)

    def perform(self, client: Client, **values: Any) -> None:
        limits.spend("mail", names.key(values["email"]))
        credentials.request_reset(**values)


class ResetSerializer(UseCaseSerializer):
    uid = serializers.CharField()
    token = serializers.CharField()
    newPassword = PasswordField(source="new_password")  # noqa: N815

    def perform(self, client: Client, **values: Any) -> None:
        credentials.reset_password(**values, client=client)


class VerificationSerializer(UseCaseSerializer):
    uid = serializers.CharField()
    token = serializers.CharField()

    def perform(self, client: Client, **values: Any) -> None:
        credentials.verify_email(**values, client=client)


class ResendSerializer(UseCaseSerializer):
    def perform(self, client: Client, **values: Any) -> None:
        user = self.context["request"].user
        limits.spend("mail", names.key(user.email))
        credentials.request_verification(user)
