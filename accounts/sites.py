from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from .forms import AdminLoginForm, hold_off


class AdminSite(admin.AdminSite):
    """Django's, with the limits on guessing, and a code at the login."""

    site_header = site_title = "Latchkey"
    login_form = AdminLoginForm
    # Otherwise it answers every path below /admin/, and those without their trailing slash would be 404.
    final_catch_all_view = False

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return hold_off(super().login(request, extra_context))
