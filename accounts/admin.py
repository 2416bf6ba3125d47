from typing import Any

from django.contrib import admin
from django.contrib.auth import admin as auth
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from tokens.admin import SessionAdmin
from tokens.models import Session

from . import names
from .models import User


class SessionInline(admin.TabularInline):  # type: ignore[type-arg]
    """Where the user is signed in; each leads to its own page, where it can be ended."""

    model = Session
    fk_name = "user"
    ordering = ("-rotated_at",)
    fields = readonly_fields = ("status", "device", "ip_address", "created_at", "rotated_at", "expires_at")
    show_change_link = True
    can_delete = False

    status, device = SessionAdmin.status, SessionAdmin.device

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        return super().get_queryset(request).select_related("user")

    def has_add_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(auth.UserAdmin):  # type: ignore[type-arg]
    list_display = ("username", "email", "email_verified", "is_staff", "is_active", "date_joined", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "email_verified", "groups")
    # By the keys, so that the case of É matters on no engine.
    search_fields = ("username_key", "email_key")
    search_help_text = _("By username or e-mail address.")
    date_hierarchy = "date_joined"
    ordering = ("username_key",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("E-mail"), {"fields": ("email", "email_verified")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (_("Times"), {"fields": ("date_joined", "last_login")}),
    )
    readonly_fields = ("date_joined", "last_login")
    add_fieldsets = (
        (
            None,
            {"classes": ("wide",), "fields": ("username", "email", "usable_password", "password1", "password2")},
        ),
    )
    inlines = (SessionInline,)

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        return super().get_search_results(request, queryset, names.key(search_term))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if "email" in form.changed_data and "email_verified" not in form.changed_data:
            obj.email_verified = False  # that was the former address
        super().save_model(request, obj, form, change)
