from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import partial
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth import admin as auth
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.formats import localize
from django.utils.timezone import template_localtime  # type: ignore[attr-defined]  # its stubs leave it out
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from tokens.admin import OfferedLookups, SecurityEventAdmin, SessionAdmin
from tokens.domain import events, sessions
from tokens.domain.authority import may_act_on, within_reach
from tokens.exceptions import TooManyTries
from tokens.http.requests import client_of
from tokens.models import Reason, SecurityEvent, Session

from . import kinds, names
from .factors import registry, second_factor
from .forms import PasswordForm
from .models import User, last_sign_in, passkeys_since
from .owner import password
from .owner.password import NoResetPossible

CHANGES = {"username": kinds.USERNAME_CHANGED, "email": kinds.EMAIL_CHANGED}
"""The kind to announce when staff changes a field."""


class Recent(BaseInlineFormSet):  # type: ignore[type-arg]
    """The first rows alone. A page with more fields than Django accepts could not be saved."""

    shown = 10

    def get_queryset(self) -> Any:
        # Each form asks for it; the slice is read once.
        if not hasattr(self, "_queryset"):
            self._queryset = super().get_queryset()[: self.shown]
        return self._queryset


class UserInline(admin.TabularInline):  # type: ignore[type-arg]
    """The latest rows of a user, read-only. Each links to its own page; a link below leads to all of them."""

    template = "admin/accounts/user/rows.html"
    formset = Recent
    fk_name = "user"
    show_change_link = True
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


class SessionInline(UserInline):
    """Where the user is signed in."""

    model = Session
    ordering = ("-pk",)
    fields = readonly_fields = ("status", "device", "ip_address", "last_used", "expires")

    status, device = SessionAdmin.status, SessionAdmin.device
    last_used, expires = SessionAdmin.last_used, SessionAdmin.expires
    Media = SessionAdmin.Media

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        return super().get_queryset(request).select_related("user")


class SecurityEventInline(UserInline):
    """The account's latest events."""

    model = SecurityEvent
    verbose_name_plural = _("recent security events")
    fields = readonly_fields = ("created_at", "event", "ip_address", "device", "times", "cause")

    event, device = SecurityEventAdmin.event, SecurityEventAdmin.device
    times, cause = SecurityEventAdmin.times, SecurityEventAdmin.cause


class UserForm(UserChangeForm):  # type: ignore[type-arg]
    """Django's form, without the password: staff can't choose another user's password (OWASP ASVS 5.0, 6.4.6)."""

    password = None  # type: ignore[assignment]  # so a form leaves out a field that it inherits


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(OfferedLookups, auth.GroupAdmin):
    pass


@admin.register(User)
class UserAdmin(OfferedLookups, auth.UserAdmin):  # type: ignore[type-arg]
    form = UserForm
    add_form_template = None
    list_display = (
        "username",
        "email",
        "email_verified",
        "has_second_factor",
        "is_staff",
        "is_active",
        "date_joined",
        "last_sign_in",
    )
    list_select_related = ("authenticator_app",)
    list_filter = ("is_active", "is_staff", "is_superuser", "email_verified", "groups")
    # By the keys, so that É and é are the same in every database.
    search_fields = ("username_key", "email_key")
    search_help_text = _("Search by username or email address.")
    date_hierarchy = "date_joined"
    ordering = ("username_key",)
    fieldsets = (
        (None, {"fields": ("username", "is_active", "has_password", "has_second_factor")}),
        (_("Email"), {"fields": ("email", "email_verified", "awaiting_verification")}),
        (
            _("Permissions"),
            {
                "classes": ("collapse",),
                "fields": ("is_staff", "is_superuser", "groups", "user_permissions"),
            },
        ),
        (_("Times"), {"fields": ("date_joined", "last_sign_in")}),
    )
    readonly_fields = ("awaiting_verification", "has_password", "has_second_factor", "date_joined", "last_sign_in")
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)
    add_fieldsets_without_password = (
        (
            None,
            {
                "fields": ("username", "email"),
                "description": _("Then select the user in the list and send a link to choose a password."),
            },
        ),
    )
    inlines = (SessionInline, SecurityEventInline)
    actions = ("revoke_sessions", "send_password_reset", "remove_second_factor")
    change_form_template = "admin/accounts/user/change_form.html"

    @admin.display(description=_("password"), boolean=True)
    def has_password(self, user: User) -> bool:
        return user.has_usable_password()

    @admin.display(description=_("second factor"), boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return registry.since(user) is not None

    def get_queryset(self, request: HttpRequest) -> Any:
        users = super().get_queryset(request)
        return users.annotate(last_sign_in=last_sign_in(), passkeys_since=passkeys_since())

    @admin.display(description=_("last sign-in"), ordering=F("last_sign_in").asc(nulls_first=True))
    def last_sign_in(self, user: Any) -> str | None:
        return localize(template_localtime(user.last_sign_in)) if user.last_sign_in else None

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("latchkey.change_session")

    @admin.action(description=_("Revoke all sessions of selected users"), permissions=["revoke"])
    def revoke_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        """Sign the users out everywhere."""
        users = within_reach(request.user, queryset)
        revoked = 0
        for user in users:
            with transaction.atomic():
                count = sessions.revoke_all(user, Reason.STAFF, client_of(request), cast(User, request.user))
                if count:
                    self.log_change(request, user, gettext("Revoked all sessions."))
                    revoked += count
        if revoked:
            message = ngettext("%(count)d session was revoked.", "%(count)d sessions were revoked.", revoked)
            self.message_user(request, message % {"count": revoked}, messages.SUCCESS)
        else:
            self.message_user(request, _("There were no active sessions to revoke."), messages.WARNING)
        # An action on a user's page leads back to that page.
        return redirect("admin:accounts_user_change", users[0].pk) if "on_page" in request.POST and users else None

    @admin.action(description=_("Send a link to reset the password"), permissions=["change"])
    def send_password_reset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Help users who can't sign in."""
        chosen = within_reach(request.user, queryset)
        asked, sent = queryset.count(), sum(self._send_reset(request, user) for user in chosen)
        if sent:
            message = ngettext("%d link was sent.", "%d links were sent.", sent)
            self.message_user(request, message % sent, messages.SUCCESS)
        if skipped := asked - sent:
            message = ngettext(
                "%d user was skipped: no email address, inactive, too many links already, or permissions you lack.",
                "%d users were skipped: no email address, inactive, too many links already, or permissions you lack.",
                skipped,
            )
            self.message_user(request, message % skipped, messages.WARNING)

    def _send_reset(self, request: HttpRequest, user: User) -> bool:
        try:
            with transaction.atomic():
                password.send_reset(user, client_of(request))
                self.log_change(request, user, gettext("Sent a link to reset the password."))
        except (NoResetPossible, TooManyTries):
            return False
        return True

    @admin.action(description=_("Remove the second factor of selected users"), permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Help users who have lost their device, except oneself and users with more rights."""
        others = queryset.exclude(pk=cast(int, request.user.pk))
        removed = 0
        for user in [user for user in within_reach(request.user, others) if registry.since(user)]:
            with transaction.atomic():
                if second_factor.take_away(user, client_of(request)):
                    self.log_change(request, user, gettext("Removed the second factor."))
                    removed += 1
        if removed:
            message = ngettext("%d second factor was removed.", "%d second factors were removed.", removed)
            self.message_user(request, message % removed, messages.SUCCESS)
        else:
            self.message_user(
                request, _("None of these users has a second factor that you may remove."), messages.WARNING
            )

    # Staff who may only change users could otherwise gain rights: by granting them, or by taking over an account that
    # has them.

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or may_act_on(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or may_act_on(request.user, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        rights = () if request.user.is_superuser else ("is_staff", "is_superuser", "groups", "user_permissions")
        return (*super().get_readonly_fields(request, obj), *rights)

    # Superusers can set passwords in the shell anyway, and have to where there is no mail. Other staff sends links.

    def get_form(self, request: HttpRequest, obj: User | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        if not request.user.is_superuser:
            kwargs["form"] = UserForm
        return super().get_form(request, obj, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj or request.user.is_superuser:
            return super().get_fieldsets(request, obj)
        return self.add_fieldsets_without_password

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002 (as Django has it)
        if not request.user.is_superuser:
            raise PermissionDenied
        if id == str(request.user.pk):
            # That page asks for the current password.
            return redirect("admin:password_change")
        # In a copy for this request, since Django passes the form no request.
        page: Any = copy(self)
        page.change_password_form = partial(PasswordForm, client_of(request))
        with self._locked(request, id):
            return super(UserAdmin, page).user_change_password(request, id, form_url)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        with self._locked(request, object_id):
            return super().changeform_view(request, object_id, form_url, extra_context)

    @contextmanager
    def _locked(self, request: HttpRequest, object_id: str | None) -> Iterator[None]:
        """Lock the changed user: a form saves the whole row, and would undo parallel changes."""
        user = self.get_object(request, object_id) if object_id and request.method == "POST" else None
        with transaction.atomic() if user else nullcontext():
            if user:
                User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
            yield

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        return super().get_search_results(request, queryset, names.key(search_term))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        client = client_of(request)
        if "email" in form.changed_data and "email_verified" not in form.changed_data:
            obj.email_verified = False  # only the former address was verified
        if change and (fields := {"username", "email"}.intersection(form.changed_data)):
            former = User.objects.get(pk=obj.pk)
            for kind in [CHANGES[field] for field in sorted(fields)]:
                events.announce(kind, former, client)
        if change and "is_active" in form.changed_data and not obj.is_active:
            sessions.revoke_all(obj, Reason.DEACTIVATED, client, cast(User, request.user))
        if obj.email_verified:
            obj.awaiting_verification = False
        if not change and "password1" not in form.fields:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
