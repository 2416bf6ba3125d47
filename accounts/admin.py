from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth import admin as auth
from django.contrib.auth.forms import UserChangeForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from tokens.admin import SessionAdmin
from tokens.exceptions import TooManyTries
from tokens.models import Session
from tokens.requests import client_of

from . import credentials, names, second_factor
from .credentials import NoResetPossible
from .forms import AdminLoginForm
from .models import User

admin.site.login_form = AdminLoginForm


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


class UserForm(UserChangeForm):  # type: ignore[type-arg]
    """Django's, without the password: nobody chooses that of another (OWASP ASVS 5.0, 6.4.6)."""

    password = None  # type: ignore[assignment]  # so a form leaves out a field that it inherits


@admin.register(User)
class UserAdmin(auth.UserAdmin):  # type: ignore[type-arg]
    form = add_form = UserForm
    add_form_template = None
    list_display = (
        "username",
        "email",
        "email_verified",
        "has_second_factor",
        "is_staff",
        "is_active",
        "date_joined",
        "last_login",
    )
    list_select_related = ("second_factor",)
    list_filter = ("is_active", "is_staff", "is_superuser", "email_verified", "groups")
    # By the keys, so that the case of É matters on no engine.
    search_fields = ("username_key", "email_key")
    search_help_text = _("By username or e-mail address.")
    date_hierarchy = "date_joined"
    ordering = ("username_key",)
    fieldsets = (
        (None, {"fields": ("username", "has_password", "has_second_factor")}),
        (_("E-mail"), {"fields": ("email", "email_verified", "awaiting_verification")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (_("Times"), {"fields": ("date_joined", "last_login")}),
    )
    readonly_fields = ("awaiting_verification", "has_password", "has_second_factor", "date_joined", "last_login")
    add_fieldsets = (
        (
            None,
            {
                "fields": ("username", "email"),
                "description": _("Then send a link, from the list of users, with which the user chooses a password."),
            },
        ),
    )
    inlines = (SessionInline,)
    actions = ("send_password_reset", "remove_second_factor")

    @admin.display(description=_("password"), boolean=True)
    def has_password(self, user: User) -> bool:
        return user.has_usable_password()

    @admin.display(description=_("second factor"), boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return second_factor.enabled(user) is not None

    @admin.action(description=_("Send a link to reset the password"), permissions=["change"])
    def send_password_reset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Help those who can't get in. As in the API, only a superuser does this to a superuser."""
        chosen = queryset if request.user.is_superuser else queryset.exclude(is_superuser=True)
        asked, sent = queryset.count(), sum(self._send_reset(request, user) for user in chosen)
        if sent:
            told = ngettext("%d link was sent.", "%d links were sent.", sent)
            self.message_user(request, told % sent, messages.SUCCESS)
        if skipped := asked - sent:
            told = ngettext(
                "%d user was skipped: without an address, deactivated, sent too many already, or a superuser.",
                "%d users were skipped: without an address, deactivated, sent too many already, or superusers.",
                skipped,
            )
            self.message_user(request, told % skipped, messages.WARNING)

    def _send_reset(self, request: HttpRequest, user: User) -> bool:
        try:
            with transaction.atomic():
                credentials.send_reset(user, client_of(request))
                self.log_change(request, user, gettext("Sent a link to reset the password."))
        except (NoResetPossible, TooManyTries):
            return False
        return True

    @admin.action(description=_("Remove the second factor of selected users"), permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Help those who have lost their device. Nobody gets around the own one here, nor around a superuser's."""
        chosen = queryset.filter(second_factor__enabled_at__isnull=False).exclude(pk=cast(int, request.user.pk))
        if not request.user.is_superuser:
            chosen = chosen.exclude(is_superuser=True)
        removed = 0
        for user in chosen:
            with transaction.atomic():
                if second_factor.take_away(user, client_of(request)):
                    self.log_change(request, user, gettext("Removed the second factor."))
                    removed += 1
        if removed:
            told = ngettext("%d second factor was removed.", "%d second factors were removed.", removed)
            self.message_user(request, told % removed, messages.SUCCESS)
        else:
            self.message_user(request, _("There was no second factor that you may remove."), messages.WARNING)

    def get_urls(self) -> list[Any]:
        return [url for url in super().get_urls() if url.name != "auth_user_password_change"]

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        return super().get_search_results(request, queryset, names.key(search_term))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if "email" in form.changed_data and "email_verified" not in form.changed_data:
            obj.email_verified = False  # that was the former address
        if obj.email_verified:
            obj.awaiting_verification = False
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
