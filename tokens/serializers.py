import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.contrib.auth.models import update_last_login
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.request import Request
from rest_framework_simplejwt import serializers as simplejwt

from . import tokens
from .conf import conf, resolve
from .domain import feed, sessions, signing_in
from .domain.client import Client
from .domain.signing_in import IDENTIFIER_LENGTH, PASSWORD_LENGTH, ClaimsFor, Terms
from .exceptions import (
    AnswerNotValid,
    ChallengeNotValid,
    InvalidCredentials,
    NotSupported,
    SecondFactorRequired,
    SignInTooOld,
    TooManyTries,
)
from .http import proofs
from .http.errors import as_api_exception
from .http.exchange import exchange
from .http.fields import TokenField, TokenHintField
from .http.refusals import ReauthenticationRequired
from .http.requests import client_of
from .jose import jwt
from .models import DEVICE_NAME_LENGTH, Reason, Session
from .tokens import AccessToken, RefreshToken, claims_set_by, login_under_way

AuthUser = tokens.AuthUser
SlidingToken = tokens.SlidingToken
Token = tokens.Token
TokenUser = tokens.TokenUser
UntypedToken = tokens.UntypedToken

CODE_LENGTH = 100
"""The most characters, including spaces and hyphens that people type."""

CHALLENGE_LENGTH = 4096

CREDENTIAL_LENGTH = 16 * 1024
"""The most bytes of a credential as JSON."""


class PasswordField(serializers.CharField):
    """A password as typed: spaces at its ends are part of it."""

    def __init__(self, **kwargs: Any) -> None:
        style = {"input_type": "password"}
        super().__init__(
            write_only=True,
            trim_whitespace=False,
            max_length=PASSWORD_LENGTH,
            style=style,
            **kwargs,
        )


class SwitchField(serializers.BooleanField):
    """A JSON boolean. DRF's field would also accept "off" and 0."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class RememberField(SwitchField):
    """Whether the session outlives the browser."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, default=True, source="remembered", **kwargs)


class DeviceNameField(serializers.CharField):
    """The client's name for itself. Spaces around it don't count."""

    default_error_messages = {"not_printable": _("Use printable characters only.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=DEVICE_NAME_LENGTH, label=_("Device name"), **kwargs)

    def run_validators(self, value: Any) -> None:
        super().run_validators(value)
        if not value.isprintable():
            self.fail("not_printable")


class PlainBody(serializers.Serializer[Any]):
    """Takes a plain body as it is, without DRF's fields, which are built for each request.

    Plain is a JSON object with exactly the members in `plain`: texts of at most so many characters that the fields
    would neither change nor refuse. A subclass does not inherit `plain`, since its fields may be others.
    """

    def to_internal_value(self, data: Any) -> Any:
        return data if self._takes(data) else super().to_internal_value(data)

    def run_validators(self, value: Any) -> None:
        if self.validators:  # DRF would make the fields even for none
            super().run_validators(value)

    def _takes(self, data: Any) -> bool:
        plain = vars(type(self)).get("plain")
        if not plain or "fields" in vars(self) or type(data) is not dict or data.keys() != plain.keys():
            return False
        return all(_is_plain(data[name], length) for name, length in plain.items())


def _is_plain(text: object, length: int) -> bool:
    return isinstance(text, str) and 0 < len(text) <= length and text.isprintable() and text == text.strip()


class UseCaseSerializer(PlainBody):
    """The input of a use case: `is_valid` parses it, and `save` performs the use case.

    Refusals of the use case become errors by field, under the names on the wire.
    """

    example: Mapping[str, Any] | None = None
    """A body for the OpenAPI schema, as a new account would send it. Any serializer of a body can have one."""

    @property
    def request(self) -> Any:
        """Django's request; None without one, as SimpleJWT's serializers can be used."""
        request = self.context.get("request")
        return request._request if isinstance(request, Request) else request

    def perform(self, client: Client, **values: Any) -> Any:
        raise NotImplementedError

    def terms(self, values: Mapping[str, Any]) -> Terms:
        """Return the terms of the session that a sign-in begins. Raises ProofRefused."""
        return Terms(
            remembered=values.get("remembered", True),
            device_name=values.get("device_name", ""),
            jkt=proofs.key_for_session(self.request),
        )

    def save(self, **kwargs: Any) -> Any:
        try:
            return self.perform(client_of(self.request), **self.validated_data)
        except AnswerNotValid as error:
            if not error.by_field:
                raise AuthenticationFailed(error.message, error.code) from error
            raise ValidationError({error.field: [error.message]}, error.code) from error
        except ChallengeNotValid as error:
            raise AuthenticationFailed(error.message, error.code) from error
        except SignInTooOld as error:
            raise ReauthenticationRequired(conf.recent_sign_in, getattr(self.request, "user", None)) from error
        except DjangoValidationError as error:
            wire_names = {field.source: name for name, field in self.fields.items()}
            detail = serializers.as_serializer_error(error)
            raise ValidationError(
                {wire_names.get(name, name): messages for name, messages in detail.items()}
            ) from error


class PairSerializer(UseCaseSerializer):
    """A use case of the body transport, which answers with both tokens.

    `validate` performs it, as in SimpleJWT: projects override `validate` and add to what it returns.
    """

    token_class: Any = RefreshToken
    session: Session

    def run_validation(self, *args: Any, **kwargs: Any) -> Any:
        key = partial(proofs.key_for_session, self.request)
        with login_under_way(client_of(self.request), key=key) as self.login:
            return super().run_validation(*args, **kwargs)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        self.session = self.login.session = self.perform(client_of(self.request), **attrs)
        return self.answer()

    def answer(self) -> dict[str, str]:
        refresh = self.token_class.of(self.session)
        return {"refresh": str(refresh), "access": str(refresh.access_token)}


class CredentialsSerializer(simplejwt.TokenObtainSerializer, UseCaseSerializer):
    """A name and a password.

    The answer and the time taken are the same for an unknown name, a wrong password and a deactivated account.
    """

    token_class: Any = RefreshToken
    user: Any
    example = {simplejwt.TokenObtainSerializer.username_field: "ada", "password": "the analytical engine"}

    default_error_messages = {
        # SimpleJWT's sentence, here so that its translations don't need SimpleJWT's app.
        "no_active_account": _("No active account found with the given credentials"),
    }
    refusal = "no_active_account"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Past SimpleJWT's, which would add its own fields.
        super(simplejwt.TokenObtainSerializer, self).__init__(*args, **kwargs)

    def get_fields(self) -> dict[str, Any]:
        return {
            **super().get_fields(),
            self.username_field: serializers.CharField(write_only=True, max_length=IDENTIFIER_LENGTH),
            "password": PasswordField(),
            "deviceName": DeviceNameField(source="device_name", default="", write_only=True),
        }

    @classmethod
    def get_token(cls, user: Any) -> Any:
        """Return a refresh token of the user. A subclass can set claims on it, for every token of the session."""
        return cls.token_class.for_user(user)

    @property
    def claimant(self) -> Any:
        """The serializer whose `get_token` sets the project's claims."""
        return self

    def perform(self, client: Client, **values: Any) -> Session:
        terms, claims_for = self.terms(values), claims_set_in(self.claimant)
        former = self.context.get("former")
        session: Session = self._try(values, client, terms, signing_in.sign_in, claims_for=claims_for, former=former)
        login_succeeded(session.user, self.context.get("request"))
        return session

    def _try(
        self, values: dict[str, Any], client: Client, terms: Terms, act: Callable[..., Any], **options: Any
    ) -> Any:
        username, password = values[self.username_field], values["password"]
        try:
            return act(
                username,
                password,
                client,
                terms,
                request=self.request,
                username_field=self.username_field,
                **options,
            )
        except (TooManyTries, SecondFactorRequired) as error:
            # A project's own view may have no handler for them.
            raise as_api_exception(error) from error
        except InvalidCredentials as error:
            if conf.on_login_failed:
                credentials = {self.username_field: username, "password": "*" * 20}
                resolve(conf.on_login_failed)(credentials, self.context.get("request"))
            sentence = signing_in.with_hint(self.error_messages[self.refusal])
            raise AuthenticationFailed(sentence, self.refusal) from error


class LoginSerializer(CredentialsSerializer):
    remember = RememberField()

    default_error_messages = {"invalid_credentials": _("The username or password is wrong.")}
    refusal = "invalid_credentials"

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return attrs

    @property
    def claimant(self) -> Any:
        return obtain_serializer()


class TokenObtainSerializer(CredentialsSerializer):
    """Verify a name and a password. `get_token(self.user)` then starts the session."""

    def run_validation(self, *args: Any, **kwargs: Any) -> Any:
        jkt = proofs.key_for_session(self.request)
        with login_under_way(client_of(self.request), key=lambda: jkt):
            return super().run_validation(*args, **kwargs)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        self.user, __ = self._try(attrs, client_of(self.request), Terms(), signing_in.authenticate)
        return {}


class TokenObtainPairSerializer(PairSerializer, CredentialsSerializer):
    refresh = TokenField(read_only=True)
    access = TokenField(read_only=True)
    plain = {CredentialsSerializer.username_field: IDENTIFIER_LENGTH, "password": PASSWORD_LENGTH}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        tokens = super().validate(attrs)
        self.user = self.session.user
        return tokens


def obtain_serializer() -> Any:
    """Return the serializer whose `get_token` adds the project's claims."""
    return resolve(conf.token_obtain_serializer) or TokenObtainPairSerializer


def claims_set_in(serializer: Any) -> ClaimsFor | None:
    """Return a function that asks `get_token` for the project's claims; None for our own, which sets none."""
    get_token, ours = serializer.get_token, CredentialsSerializer.__dict__["get_token"]
    is_ours = getattr(get_token, "__func__", None) is ours.__func__ and serializer.token_class is RefreshToken
    return None if is_ours else partial(claims_set_by, get_token)


def login_succeeded(user: Any, request: Any) -> None:
    """Call the functions that SimpleJWT's settings name for a successful login."""
    if conf.on_login_success:
        resolve(conf.on_login_success)(user, request)
    elif conf.update_last_login:
        default_on_login_success(user, request)


def default_on_login_success(user: Any, request: Any) -> None:
    update_last_login(type(user), user)


def default_on_login_failed(credentials: dict[str, Any], request: Any) -> None:
    """Do nothing."""


class CodeField(serializers.CharField):
    """A code of the second factor: one of an authenticator app, or a recovery code."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, max_length=CODE_LENGTH, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        # A JSON number would lose leading zeros.
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class ChallengeField(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(write_only=True, max_length=CHALLENGE_LENGTH, **kwargs)


class CredentialField(serializers.JSONField):
    """A WebAuthn credential, as `toJSON()` gives it: an object of limited size. A factor checks its content."""

    default_error_messages = {
        "not_an_object": _("This must be a JSON object."),
        "too_large": _("This is too large."),
    }

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict):
            self.fail("not_an_object")
        if len(json.dumps(value)) > CREDENTIAL_LENGTH:
            self.fail("too_large")
        return value


class SecondStepSerializer(UseCaseSerializer):
    """The answer to the challenge of a login."""

    challenge = ChallengeField()
    code = CodeField(required=False)
    credential = CredentialField(write_only=True, required=False)
    example = {"challenge": "eyJ…", "code": "123456"}

    default_error_messages = {"one_answer": _("Send either a code or a credential.")}

    def perform(self, client: Client, **values: Any) -> Session:
        if ("code" in values) == ("credential" in values):
            raise ValidationError({"code": [self.error_messages["one_answer"]]}, "one_answer")
        claims_for = claims_set_in(obtain_serializer())
        try:
            session = signing_in.answer(
                values["challenge"],
                values,
                client,
                claims_for,
                jkt=proofs.proven_key(self.request),
                former=self.context.get("former"),
            )
        except (AnswerNotValid, ChallengeNotValid) as error:
            raise AuthenticationFailed(error.message, error.code) from error
        login_succeeded(session.user, self.context.get("request"))
        return session


class SecondStepPairSerializer(PairSerializer, SecondStepSerializer):
    refresh = TokenField(read_only=True)
    access = TokenField(read_only=True)


class ExchangeSerializer(UseCaseSerializer):
    """Exchanges the Django session in the request's cookie for one of ours."""

    remember = RememberField()
    deviceName = DeviceNameField(source="device_name", default="", write_only=True)  # noqa: N815
    example = {"remember": True}

    def perform(self, client: Client, **values: Any) -> Session:
        claims_for = claims_set_in(obtain_serializer())
        session = exchange(self.request, client, self.terms(values), claims_for, self.context.get("former"))
        login_succeeded(session.user, self.context.get("request"))
        return session


class ExchangePairSerializer(PairSerializer, ExchangeSerializer):
    refresh = TokenField(read_only=True)
    access = TokenField(read_only=True)


class RefreshSerializer(UseCaseSerializer):
    """A refresh token to exchange for a new one, from the cookie or the body."""

    refresh = TokenField()
    plain = {"refresh": jwt.MAX_LENGTH}
    example = {"refresh": "eyJ…"}

    def perform(self, client: Client, **values: Any) -> Session:
        prove = proofs.with_refresh_token(self.request)
        return sessions.rotate(RefreshToken.claims(values["refresh"], client), client, prove)


class TokenRefreshSerializer(PairSerializer, RefreshSerializer, simplejwt.TokenRefreshSerializer):
    refresh = TokenField()
    access = TokenField(read_only=True)
    plain = RefreshSerializer.plain

    def perform(self, client: Client, **values: Any) -> Session:
        if conf.rotate_refresh_tokens:
            return super().perform(client, **values)
        prove = proofs.with_refresh_token(self.request)
        return sessions.refresh_without_rotation(RefreshToken.claims(values["refresh"], client), client, prove)

    def answer(self) -> dict[str, str]:
        answer = super().answer()
        return answer if conf.rotate_refresh_tokens else {"access": answer["access"]}


class TokenVerifySerializer(simplejwt.TokenVerifySerializer):
    token = TokenField(write_only=True)
    example = {"token": "eyJ…"}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        token_of(attrs["token"])
        return {}


class TokenBlacklistSerializer(PlainBody, simplejwt.TokenBlacklistSerializer):
    refresh = TokenField(write_only=True)
    token_class = RefreshToken
    plain = RefreshSerializer.plain
    example = RefreshSerializer.example

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        client = client_of(self.context.get("request"))
        session = sessions.find(RefreshToken.claims(attrs["refresh"], client))
        sessions.revoke(session, Reason.LOGOUT, client, session.user)
        return {}


class TokenObtainSlidingSerializer(simplejwt.TokenObtainSlidingSerializer):
    """Not supported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(tokens.SLIDING)


class TokenRefreshSlidingSerializer(simplejwt.TokenRefreshSlidingSerializer):
    """Not supported."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(tokens.SLIDING)


class AfterSerializer(serializers.Serializer[Any]):
    """Where a reader of the feed of ended sessions continues."""

    after = serializers.CharField(
        required=False,
        max_length=40,
        help_text=_("The `next` value of the previous response. Leave it out of the first request."),
    )

    def validate_after(self, text: str) -> feed.Cursor:
        try:
            return feed.Cursor.parse(text)
        except ValueError as error:
            raise ValidationError(_("This cursor is not from this server."), "invalid_cursor") from error


class TokenSerializer(serializers.Serializer[None]):
    """The token of a request by RFC 7009 or RFC 7662; the hint is accepted and not needed."""

    token = TokenField()
    token_type_hint = TokenHintField(required=False, allow_blank=True)
    example = TokenVerifySerializer.example


def token_of(text: str) -> AccessToken | RefreshToken:
    """Return the token, of either kind, if it would be accepted now. Raises TokenRefused."""
    return RefreshToken(text) if jwt.is_refresh(text) else AccessToken(text)
