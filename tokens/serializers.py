from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt import serializers as simplejwt

from . import credentials
from .domain import sessions
from .exceptions import NoActiveAccount
from .http.requests import client_of
from .jose import jwt
from .models import DEVICE_NAME_LENGTH, Reason, Session
from .tokens import AccessToken, RefreshToken

IDENTIFIER_LENGTH = 320
"""Characters; as long as an e-mail address can be."""

PASSWORD_LENGTH = 4096


class PasswordField(serializers.CharField):
    """A password as it was typed: spaces at its ends are part of it."""

    def __init__(self, **kwargs: Any) -> None:
        style = {"input_type": "password"}
        super().__init__(
            write_only=True,
            trim_whitespace=False,
            max_length=PASSWORD_LENGTH,
            style=style,
            **kwargs,
        )


class RememberField(serializers.BooleanField):
    """Whether the session is to outlive the browser. A JSON boolean, where DRF would take "off" and 0 for one too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, default=True, source="remembered", **kwargs)

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class DeviceNameField(serializers.CharField):
    """What a client calls itself. Spaces around it don't count."""

    default_error_messages = {"not_printable": _("Use printable characters only.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=DEVICE_NAME_LENGTH, **kwargs)

    def run_validators(self, value: Any) -> None:
        super().run_validators(value)
        if not value.isprintable():
            self.fail("not_printable")


class CredentialsSerializer(simplejwt.TokenObtainSerializer):
    """Judge a name and a password, and start the session that they open.

    Whether the name is unknown, the password wrong or the account deactivated: the answer and the work are the same.
    """

    refusal = "no_active_account"
    session: Session

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[self.username_field] = serializers.CharField(
            write_only=True, trim_whitespace=False, max_length=IDENTIFIER_LENGTH
        )
        self.fields["password"] = PasswordField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        request, remembered = self.context["request"], attrs.get("remembered", True)
        self.user = credentials.authenticate(
            request._request, attrs[self.username_field], attrs["password"], remembered=remembered
        )
        if self.user is None:
            raise self._refused()
        try:
            self.session = sessions.start(self.user, client_of(request), remembered=remembered)
        except NoActiveAccount as error:
            raise self._refused() from error
        return {}

    def _refused(self) -> AuthenticationFailed:
        return AuthenticationFailed(credentials.refusal(self.error_messages[self.refusal]), self.refusal)


class LoginSerializer(CredentialsSerializer):
    remember = RememberField()

    default_error_messages = {"invalid_credentials": _("The username or the password is wrong.")}
    refusal = "invalid_credentials"


class TokenObtainPairSerializer(CredentialsSerializer):
    # SimpleJWT's sentence; nobody has to install its app for the translations of it.
    default_error_messages = {"no_active_account": _("No active account found with the given credentials")}

    refresh = serializers.CharField(read_only=True)
    access = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        super().validate(attrs)
        return pair(self.session)


class TokenField(serializers.CharField):
    """A token as it was sent. Text that is none, with a NUL byte for one, is refused as a token, and not as a field."""

    def run_validators(self, value: Any) -> None:
        """Leave it to the parser of tokens."""


class TokenRefreshSerializer(simplejwt.TokenRefreshSerializer):
    refresh = TokenField()
    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        claims = RefreshToken.claims(attrs["refresh"])
        return pair(sessions.rotate(claims, client_of(self.context["request"])))


class TokenVerifySerializer(simplejwt.TokenVerifySerializer):
    token = TokenField(write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        token_of(attrs["token"])
        return {}


class TokenBlacklistSerializer(simplejwt.TokenBlacklistSerializer):
    refresh = TokenField(write_only=True)
    token_class = RefreshToken

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        session = sessions.find(RefreshToken.claims(attrs["refresh"]))
        sessions.revoke(session, Reason.LOGOUT, client_of(self.context["request"]), session.user)
        return {}


class TokenSerializer(serializers.Serializer[None]):
    """The token that RFC 7009 and RFC 7662 ask about; the hint is allowed, and not needed."""

    token = TokenField()
    token_type_hint = TokenField(required=False, allow_blank=True)


def token_of(text: str) -> AccessToken | RefreshToken:
    """Return the token, of either kind, if it would be accepted now. Raises TokenRefused."""
    return RefreshToken(text) if jwt.is_refresh(text) else AccessToken(text)


def pair(session: Session) -> dict[str, str]:
    """Return what a client of the body transport is given."""
    return {"refresh": str(RefreshToken.of(session)), "access": str(AccessToken.of(session))}
