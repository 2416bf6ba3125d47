from typing import Any

from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy

from tokens.exceptions import TokenRevoked

from .forms import AdminLoginForm, OwnPasswordForm, mark_throttled
from .preconditions import WrongPassword


class OwnPasswordView(PasswordChangeView):
    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            return super().form_valid(form)
        except WrongPassword as error:
            # An account without a password is not asked for one.
            form.add_error(next(iter(form.fields)), error.messages[0])
            return self.form_invalid(form)
        except TokenRevoked:
            return redirect("admin:password_change")  # which asks for a sign-in

    def form_invalid(self, form: Any) -> HttpResponse:
        return mark_throttled(super().form_invalid(form))


class AdminSite(admin.AdminSite):
    """Django's admin site, with limits on guessing passwords, and a code at the login."""

    site_header = site_title = "Latchkey"
    login_form = AdminLoginForm
    # Otherwise it answers every path below /admin/, and a path without its trailing slash would be 404.
    final_catch_all_view = False

    def get_urls(self) -> list[Any]:
        # Without the view behind "view on site", which no page here offers: it fails on a malformed key.
        return [url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site"]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return mark_throttled(super().login(request, extra_context))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return OwnPasswordView.as_view(extra_context={**self.each_context(request), **(extra_context or {})})(request)
