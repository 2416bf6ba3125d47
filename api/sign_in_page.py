"""Signing in to the browsable API, and out."""

from typing import Any

from django import forms
from django.contrib import auth
from django.contrib.auth.views import RedirectURLMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django.views.generic import FormView

from accounts import forms as accounts
from accounts.models import User
from tokens.domain import signing_in
from tokens.domain.signing_in import IDENTIFIER_LENGTH, PASSWORD_LENGTH
from tokens.exceptions import InvalidCredentials


class SignInForm(accounts.SignInForm):
    """Verify the input and start the session."""

    username = forms.CharField(
        label=_("Username or email address"),
        max_length=IDENTIFIER_LENGTH,
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    password = forms.CharField(
        label=_("Password"),
        max_length=PASSWORD_LENGTH,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    user: User

    def __init__(self, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.request = request

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            try:
                self.user = self.enter()
            except InvalidCredentials as error:
                raise forms.ValidationError(signing_in.with_hint(_("The username or password is wrong."))) from error
        return self.cleaned_data


@method_decorator(
    [never_cache, sensitive_post_parameters("password", "code", "second_factor", "credential")], name="dispatch"
)
class SignInView(RedirectURLMixin, FormView):  # type: ignore[type-arg]
    template_name = "api/sign_in.html"
    form_class = SignInForm
    next_page = "api:root"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: SignInForm) -> HttpResponse:
        auth.login(self.request, form.user)
        return HttpResponseRedirect(self.get_success_url())

    def form_invalid(self, form: SignInForm) -> HttpResponse:
        return accounts.mark_throttled(super().form_invalid(form))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(next=self.get_redirect_url(), **kwargs)


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    auth.logout(request)
    return redirect("api:root")
