"""Signing in by a form of this server's own, which asks for a code along with the password."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, cast

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth import forms as auth
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from tokens.domain import signing_in
from tokens.domain.client import Client
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid, InvalidCredentials, NoActiveAccount, SecondFactorRequired, TooManyTries
from tokens.http.requests import client_of
from tokens.http.throttles import throttle
from tokens.serializers import CODE_LENGTH

from . import page_session
from .models import PasswordChange, User
from .owner.password import replace_password


@contextmanager
def refusing() -> Iterator[None]:
    """Show on the form what a sign-in, or a password that is asked for, is refused for."""
    try:
        yield
    except TooManyTries as error:
        raise Throttled(error) from error
    except (SecondFactorRequired, AnswerNotValid) as error:
        raise ValidationError({"code": ValidationError(error.message, error.code)}) from error


def answer_in(code: str) -> Answer | None:
    """Return the answer that the form's code makes up."""
    return {"code": code} if code else None


def sign_in(request: HttpRequest, typed: Mapping[str, str], admit: Callable[[User], None] | None = None) -> User:
    """Judge what was typed into a form, and begin the session; Django's `login()` is to be called next.

    `admit` may raise against a user who has no business here. Raises InvalidCredentials or ValidationError.
    """
    with refusing():
        throttle(request, "login")
        user, amr = signing_in.judge(
            typed["username"],
            typed["password"],
            client_of(request),
            answer=answer_in(typed["code"]),
            request=request,
        )
    if admit:
        admit(user)
    try:
        page_session.begin(request, user, amr)
    except NoActiveAccount as error:
        raise InvalidCredentials from error
    return cast(User, user)


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
            label=_("Two-factor code, if you use one"),
            required=False,
            max_length=CODE_LENGTH,
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
        refusal = signing_in.with_hint(self.error_messages["invalid_login"])
        self.error_messages = {**self.error_messages, "invalid_login": refusal}

    def clean(self) -> dict[str, Any]:
        typed = self.cleaned_data
        if self.errors:
            return typed
        try:
            self.user_cache = sign_in(self.request, typed, self.confirm_login_allowed)
        except InvalidCredentials as error:
            raise self.get_invalid_login_error() from error
        return typed


class PasswordForm(auth.AdminPasswordChangeForm):  # type: ignore[type-arg]
    """The admin's, for the password of somebody else; what is logged of it says who did it from where."""

    def __init__(self, client: Client, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = client

    def save(self, commit: bool = True) -> Any:
        user: Any = super().save(commit=False)
        user.save(update_fields=["password"], password_change=PasswordChange(client=self.client))
        return user


class OwnPasswordForm(AdminPasswordChangeForm):
    """The admin's, with the limits on guessing the current password."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        with refusing():
            if signing_in.check_password(self.user, password, client_of(self.request)):
                return password
        raise ValidationError(self.error_messages["password_incorrect"], "password_incorrect")

    def save(self, commit: bool = True) -> Any:
        """End every session, and go on in a new one.

        Raises WrongPassword, if the password that was judged is by now another, and TokenRevoked.
        """
        page_pass = cast(page_session.Pass, page_session.current(self.request))
        session = replace_password(page_pass.session, self.cleaned_data["new_password1"], client_of(self.request))
        page_session.go_on(self.request, session)
        return session.user
