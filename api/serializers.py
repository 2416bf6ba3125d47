import re
from copy import copy
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts import names
from accounts.factors import second_factor
from accounts.models import User
from accounts.owner import address, username
from accounts.preconditions import require_password
from accounts.serializers import AnsweredSerializer, CurrentPasswordField
from tokens.domain import devices, limits
from tokens.domain.client import Client
from tokens.domain.outages import retried
from tokens.http.requests import client_of
from tokens.models import Reason, SecurityEvent, Session
from tokens.serializers import CodeField, DeviceNameField

TIME = serializers.DateTimeField()


class ModelSerializer(serializers.ModelSerializer[Any]):
    """DRF's serializer, with camelCase names on the wire."""

    def get_fields(self) -> dict[str, Any]:
        fields = {}
        for name, field in super().get_fields().items():
            wire_name = re.sub("_([a-z])", lambda match: match[1].upper(), name)
            if wire_name != name and field.source is None:
                field.source = name
            fields[wire_name] = field
        return fields


class AccountSerializer(ModelSerializer):
    groups = serializers.SerializerMethodField()

    def get_groups(self, user: User) -> list[str]:
        return sorted(group.name for group in user.groups.all())


class MeSerializer(AnsweredSerializer, AccountSerializer):
    """The caller's account. A new address needs the password, and the second factor if there is one."""

    instance: User
    username = serializers.CharField(max_length=names.LENGTH)
    email = serializers.EmailField(max_length=names.LENGTH, required=False, allow_blank=True, allow_null=True)
    current_password = CurrentPasswordField(label=_("Current password"))
    code = CodeField(required=False, label=_("Two-factor code, if you use one"))
    example = {"username": "countess", "email": "countess@example.com", **AnsweredSerializer.example}

    class Meta:
        model = User
        fields = (
            "id",
            "username",
            "email",
            "current_password",
            "code",
            "challenge",
            "credential",
            "email_verified",
            "is_staff",
            "groups",
            "date_joined",
        )
        read_only_fields = ("email_verified", "is_staff", "date_joined")

    def to_representation(self, user: User) -> dict[str, Any]:
        """Return the fields' values. DRF builds the fields for each request, which takes longer than all the rest."""
        return {
            "id": user.pk,
            "username": user.username,
            "email": user.email,
            "emailVerified": user.email_verified,
            "isStaff": user.is_staff,
            "groups": sorted(self.context["request"].auth.session.groups or ()),
            "dateJoined": TIME.to_representation(user.date_joined),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        email = attrs.pop("email", self.instance.email) or ""
        if email != self.instance.email:
            attrs["email"] = email
        return super().validate(attrs)

    def perform(self, client: Client, **values: Any) -> None:
        session, current_password = self.context["request"].auth.session, values.get("current_password")
        if values.keys() & {"username", "email"}:
            limits.spend("account", str(self.instance.pk))
        if "email" in values:
            second_factor.prove(session, current_password, values["answer"], client)
        elif current_password is not None:
            require_password(session, current_password, client)
        self.change(client, **values)

    @retried
    def change(self, client: Client, **values: Any) -> None:
        with transaction.atomic():
            if "username" in values:
                username.change_username(self.instance, values["username"], client)
            if "email" in values:
                address.change_email(self.instance, values["email"], client)


class UserSerializer(AccountSerializer):
    last_login = serializers.DateTimeField(source="last_sign_in", read_only=True, allow_null=True)
    example = {"isActive": False}

    class Meta:
        model = User
        fields = (
            "id",
            "username",
            "email",
            "email_verified",
            "is_active",
            "is_staff",
            "is_superuser",
            "groups",
            "date_joined",
            "last_login",
        )
        read_only_fields = tuple(name for name in fields if name != "is_active")


class SessionSerializer(ModelSerializer):
    current = serializers.SerializerMethodField()
    last_used_at = serializers.DateTimeField(source="rotated_at", read_only=True)
    device = DeviceNameField(source="device_name")
    bound = serializers.SerializerMethodField()
    example = {"device": "My old phone"}

    class Meta:
        model = Session
        fields = (
            "id",
            "current",
            "created_at",
            "last_used_at",
            "expires_at",
            "ip_address",
            "user_agent",
            "device",
            "bound",
        )
        read_only_fields = tuple(name for name in fields if name != "device")

    def to_representation(self, session: Session) -> dict[str, Any]:
        if self.get_current(session):
            session = self._as_used_now(session)
        return {**super().to_representation(session), "device": devices.name(session)}

    def _as_used_now(self, session: Session) -> Session:
        """Return the session as this request uses it. A thief who asks must not learn when the owner refreshed it."""
        session = copy(session)
        session.rotated_at = timezone.now()
        session.expires_at = session.expiry(session.rotated_at)
        session.ip_address = client_of(self.context["request"]).ip_address
        return session

    def get_current(self, session: Session) -> bool:
        return bool(session == self.context["request"].auth.session)

    def get_bound(self, session: Session) -> bool:
        return session.jkt != ""


class SecurityEventSerializer(ModelSerializer):
    reason = serializers.ChoiceField(
        Reason.choices, required=False, help_text=_("Why the session ended. Absent for other events.")
    )

    device = serializers.SerializerMethodField()

    class Meta:
        model = SecurityEvent
        fields = ("id", "kind", "created_at", "ip_address", "user_agent", "device", "session", "reason")
        read_only_fields = fields

    def get_device(self, event: SecurityEvent) -> str:
        # Not the name of the session's device: another device may hold a copy of its token.
        return devices.describe(event.user_agent)

    def to_representation(self, event: SecurityEvent) -> dict[str, Any]:
        body: dict[str, Any] = super().to_representation(event)
        if not event.reason:
            del body["reason"]
        return body


class LogSerializer(serializers.Serializer[None]):
    """The user whose log is requested."""

    user = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
