"""Signing in by a form of this server's own, which asks for a code along with the password."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from tokens import credentials
from tokens.domain.sessions import PASSWORD
from tokens.exceptions import SecondFactorRequired, TooManyTries
from tokens.http.requests import client_of
from tokens.http.throttles import throttle

from .factors import second_factor
from .mail import notices
from .owner.password import replace_password


def authenticate(request: HttpRequest, username: str, password: str, code: str) -> tuple[Any, Sequence[str]]:
    """Return the user, or None, and how the user has signed in (RFC 8176).

    Raises TooManyTries or, only after a right password, a ValidationError about the code.
    """
    throttle(request, "login")
    try:
        return credentials.authenticate(request, username, password), PASSWORD
    except SecondFactorRequired as required:
        user, amr, __ = second_factor.answer(required.challenge, code, client_of(request))
        return user, amr


class Throttled(ValidationError):
    text = ngettext_lazy(
        "Too many tries. Try again in %(wait)d second.", "Too many tries. Try again in %(wait)d seconds.", "wait"
    )

    def __init__(self, error: TooManyTries) -> None:
        super().__init__(self.text, "throttled", {"wait": error.wait})
        self.wait = error.wait


def hold_off(response: HttpResponse) -> HttpResponse:
    """Make the answer 429 (RFC 6585, section 4), if the form that it shows was refused as Throttled."""
    form = (getattr(response, "context_data", None) or {}).get("form")
    for error in chain(*form.errors.as_data().values()) if form else ():
        if isinstance(error, Throttled):
            response.status_code = 429
            response["Retry-After"] = str(error.wait)
    return response


class CodeField(forms.CharField):
    def __init__(self) -> None:
        super().__init__(
            label=_("Code, if you have a second factor"),
            required=False,
            max_length=second_factor.CODE_LENGTH,
            widget=forms.TextInput(
                attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
            ),
        )


class AdminLoginForm(AdminAuthenticationForm):
    """The admin's, with the limits on guessing, and a code."""

    code = CodeField()

    request: HttpRequest

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refusal = credentials.refusal(self.error_messages["invalid_login"])
        self.error_messages = {**self.error_messages, "invalid_login": refusal}

    def clean(self) -> dict[str, Any]:
        typed = self.cleaned_data
        if self.errors:
            return typed
        try:
            user, __ = authenticate(self.request, typed["username"], typed["password"], typed["code"])
        except TooManyTries as error:
            raise Throttled(error) from error
        if user is None:
            raise self.get_invalid_login_error()
        self.confirm_login_allowed(user)
        notices.record_sign_in(user, client_of(self.request))
        self.user_cache = user
        return typed


class OwnPasswordForm(AdminPasswordChangeForm):
    """The admin's, with the limits on guessing the current password."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        try:
            if credentials.confirm(self.request, password):
                return password
        except TooManyTries as error:
            raise Throttled(error) from error
        raise ValidationError(self.error_messages["password_incorrect"], "password_incorrect")

    def save(self, commit: bool = True) -> Any:
        """Raises WrongPassword, if the password that was judged is by now another."""
        replace_password(self.user, self.cleaned_data["new_password1"], client_of(self.request))
        return self.user
