"""Signing in by this server's own forms: by name and password with a second factor, or by a passkey alone."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, cast

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth import forms as auth
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from tokens.domain import signing_in
from tokens.domain.client import Client
from tokens.domain.signing_in import Opened
from tokens.exceptions import (
    AnswerNotValid,
    ChallengeNotValid,
    InvalidCredentials,
    KeyMismatch,
    NoActiveAccount,
    SecondFactorRequired,
    TooManyTries,
)
from tokens.http.refusals import ReauthenticationRequired
from tokens.http.requests import client_of
from tokens.http.throttles import throttle
from tokens.models import Session
from tokens.serializers import CHALLENGE_LENGTH, CODE_LENGTH, CREDENTIAL_LENGTH

from . import page_session
from .factors import passkeys
from .models import PasswordChange, User
from .owner.password import replace_password


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the refusals of a sign-in or of a password into errors of the form."""
    try:
        yield
    except TooManyTries as error:
        raise Throttled(error) from error
    except AnswerNotValid as error:
        refusal = ValidationError(error.message, error.code)
        raise ValidationError({"code": refusal}) if error.field == "code" else refusal from error


def sign_in_to_pages(
    request: HttpRequest, typed: Mapping[str, Any], admit: Callable[[User], None] | None = None
) -> User:
    """Verify the form's input and begin the session. Call Django's `login()` next.

    `admit` can raise to refuse the user. Raises InvalidCredentials, SecondFactorRequired, ChallengeNotValid or
    ValidationError.
    """
    with refusing():
        throttle(request, "login")
        user, amr, opened = _authenticate(request, typed)
    if admit:
        admit(user)
    try:
        page_session.begin(request, user, amr, opened)
    except NoActiveAccount as error:
        raise InvalidCredentials from error
    except IntegrityError as error:  # a parallel try has just opened the session
        raise ChallengeNotValid from error
    return user


def _authenticate(request: HttpRequest, typed: Mapping[str, Any]) -> tuple[User, Sequence[str], Opened | None]:
    """Return the user, how the user signed in (RFC 8176), and the answered challenge, if there was one."""
    client, credential = client_of(request), typed["credential"]
    if typed["challenge"] and credential is not None and passkeys.usable():
        return passkeys.authenticate(typed["challenge"], credential, client), passkeys.ALONE, None
    answer = {"code": typed["code"]} if credential is None else {passkeys.FIELD: credential}
    if typed["second_factor"]:
        opened, amr = signing_in.verify_answer(typed["second_factor"], answer, client)
        return opened.user, amr, opened
    given = answer if typed["code"] else None
    user, amr = signing_in.authenticate(typed["username"], typed["password"], client, answer=given, request=request)
    return user, amr, None


class Throttled(ValidationError):
    text = ngettext_lazy(
        "Too many tries. Try again in %(wait)d second.", "Too many tries. Try again in %(wait)d seconds.", "wait"
    )

    def __init__(self, error: TooManyTries) -> None:
        super().__init__(self.text, "throttled", {"wait": error.wait})
        self.wait = error.wait


def mark_throttled(response: HttpResponse) -> HttpResponse:
    """Make the answer 429 (RFC 6585, section 4) if its form was refused as Throttled."""
    form = (getattr(response, "context_data", None) or {}).get("form")
    for error in chain(*form.errors.as_data().values()) if form else ():
        if isinstance(error, Throttled):
            response.status_code = 429
            response["Retry-After"] = str(error.wait)
    return response


class CodeField(forms.CharField):
    def __init__(self) -> None:
        super().__init__(
            label=_("Two-factor code, if you use one"),
            required=False,
            max_length=CODE_LENGTH,
            widget=forms.TextInput(
                attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
            ),
        )


class CredentialField(forms.CharField):
    """A passkey's credential, as JSON. Malformed input becomes an empty credential, which is never valid."""

    widget = forms.HiddenInput

    def __init__(self) -> None:
        super().__init__(required=False, max_length=CREDENTIAL_LENGTH)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        with suppress(ValueError, RecursionError):
            credential = json.loads(text[: CREDENTIAL_LENGTH + 1])
            if isinstance(credential, dict):
                return credential
        return {}


OPTIONS_LENGTH = 2**15
"""Characters. The options name up to 20 passkeys, each by an id of up to 1,364."""


class ChallengeField(forms.CharField):
    widget = forms.HiddenInput

    def __init__(self) -> None:
        super().__init__(required=False, max_length=CHALLENGE_LENGTH)


class SignInForm(forms.Form):
    """The fields of every sign-in form: for a passkey instead of name and password, and for the second step."""

    code = CodeField()
    second_factor = ChallengeField()
    """The challenge that says that the password was right. With it, the form asks only for the second factor."""

    public_key = forms.CharField(required=False, max_length=OPTIONS_LENGTH, widget=forms.HiddenInput)
    """The options for answering that challenge by a passkey, for the page's script."""

    challenge = ChallengeField()
    """The challenge of a sign-in by a passkey alone."""

    credential = CredentialField()

    field_order = ("username", "password", "code")
    request: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if self.is_second_step or self.data.get("credential"):
            for name in ("username", "password"):
                self.fields[name].required = False

    @property
    def is_second_step(self) -> bool:
        return bool(self.data.get("second_factor"))

    @property
    def takes_passkeys(self) -> bool:
        return passkeys.usable() and (not self.is_second_step or bool(self.data.get("public_key")))

    def enter(self, admit: Callable[[User], None] | None = None) -> User:
        """Sign in, or make the page ask for what is missing. Raises InvalidCredentials or ValidationError."""
        try:
            return sign_in_to_pages(self.request, self.cleaned_data, admit)
        except SecondFactorRequired as error:
            self._ask(error.challenge, error.options.get("publicKey"))
            raise ValidationError({"code": ValidationError(error.message, error.code)}) from error
        except (ChallengeNotValid, KeyMismatch) as error:
            self._ask("")
            raise ValidationError(error.message, error.code) from error

    def _ask(self, second_factor: str, public_key: Mapping[str, Any] | None = None) -> None:
        asked = {"second_factor": second_factor, "public_key": json.dumps(public_key) if public_key else ""}
        self.data = {**dict(self.data.items()), **asked}
        self.fields["code"].widget.attrs["autofocus"] = self.is_second_step


class AdminLoginForm(SignInForm, AdminAuthenticationForm):
    """The admin's sign-in form, with the limits on guessing, and a passkey or a code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refusal = signing_in.with_hint(self.error_messages["invalid_login"])
        self.error_messages = {**self.error_messages, "invalid_login": refusal}

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            try:
                self.user_cache = self.enter(self.confirm_login_allowed)
            except InvalidCredentials as error:
                raise self.get_invalid_login_error() from error
        return self.cleaned_data


class PasswordForm(auth.AdminPasswordChangeForm):  # type: ignore[type-arg]
    """The admin's form for another user's password. The log says who changed it, and from where."""

    def __init__(self, client: Client, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = client

    def save(self, commit: bool = True) -> Any:
        user: Any = super().save(commit=False)
        user.save(update_fields=["password"], password_change=PasswordChange(client=self.client))
        return user


class OwnPasswordForm(AdminPasswordChangeForm):
    """The admin's form, with the limits on guessing the current password."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        if not self.user.has_usable_password():
            del self.fields["old_password"]

    @property
    def session(self) -> Session:
        return cast(page_session.Pass, page_session.current(self.request)).session

    def clean_new_password1(self) -> str:
        """Require a recent sign-in in place of a password that the account does not have."""
        if "old_password" not in self.fields and not signing_in.is_recent(self.session):
            raise ValidationError(ReauthenticationRequired.anew, ReauthenticationRequired.default_code)
        password: str = self.cleaned_data["new_password1"]
        return password

    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        with refusing():
            if signing_in.check_password(self.user, password, client_of(self.request)):
                return password
        raise ValidationError(self.error_messages["password_incorrect"], "password_incorrect")

    def save(self, commit: bool = True) -> Any:
        """End every session and go on in a new one.

        Raises WrongPassword if the password has changed since it was checked, and TokenRevoked.
        """
        session = replace_password(self.session, self.cleaned_data["new_password1"], client_of(self.request))
        page_session.go_on(self.request, session)
        return session.user
