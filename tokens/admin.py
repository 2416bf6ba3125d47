"""The admin's pages for sessions and the security log. Staff can look and revoke, never change.

Revoking needs the permission `latchkey.change_session`.
"""

from datetime import date, datetime, timedelta
from typing import Any, Literal, cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ERROR_FLAG, SEARCH_VAR, ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import router, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.formats import localize
from django.utils.functional import Promise, cached_property
from django.utils.html import format_html, format_html_join
from django.utils.timezone import template_localtime  # type: ignore[attr-defined]  # its stubs leave it out
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from . import kinds, times
from .domain import cutoffs, sessions, users
from .domain.authority import may_act_on, within_reach
from .domain.devices import describe
from .domain.ranges import ranges
from .http.requests import client_of
from .models import Reason, SecurityEvent, Session, SessionQuerySet, User, fingerprints

BATCH_SIZE = 500
"""How many sessions are revoked in one transaction."""


LOOKED_THROUGH = 10_000
"""The most sessions whose passwords the status filter compares."""


class StatusFilter(admin.SimpleListFilter):
    """Filters by the status in the column. Only Python can tell whether the password has changed since the login."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("active", _("active")), ("ended", _("ended")), ("expired", _("expired"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        match self.value():
            case "active":
                return queryset.live().exclude(_ended())
            case "ended":
                return queryset.exclude(revoked_at=None) | queryset.live().filter(_ended())
            case "expired":
                return queryset.expired().filter(revoked_at=None)
        return queryset


class KindFilter(admin.SimpleListFilter):
    title = _("event")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return kinds.choices()

    def queryset(self, request: HttpRequest, queryset: QuerySet[SecurityEvent]) -> QuerySet[SecurityEvent]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class Days:
    """The days of a list, for its date hierarchy: all from the first row to the last, found at the two ends of the key.

    Asking the rows for their days would read the whole table for every page.
    """

    def __init__(self, rows: QuerySet[Any]) -> None:
        self.rows = rows.values_list("created_at", flat=True)

    @cached_property
    def ends(self) -> dict[str, datetime | None]:
        return {"first": self.rows.order_by("pk").first(), "last": self.rows.order_by("-pk").first()}

    def aggregate(self, **asked: Any) -> dict[str, datetime | None]:
        return self.ends

    def datetimes(self, field: str, kind: Literal["year", "month", "day"]) -> list[date]:
        """Return the first day of each year or month, or each day."""
        first, last = (template_localtime(end) for end in self.ends.values())
        if first is None:
            return []
        days = [first.date() + timedelta(days=n) for n in range((last.date() - first.date()).days + 1)]
        match kind:
            case "year":
                days = [day.replace(month=1, day=1) for day in days]
            case "month":
                days = [day.replace(day=1) for day in days]
        return sorted(set(days))


class TimeOrderedList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # After this only the date hierarchy reads it.
        self.queryset = Days(self.queryset)


class DeletionLast(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists a deletion after the actions that can be undone or only end something."""

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django 6.1 says where the actions are shown; earlier versions don't know that argument.
        location = () if action_location is None else (action_location,)
        actions = super().get_actions(request, *location)
        return dict(sorted(actions.items(), key=lambda action: action[0] == "delete_selected"))


class OfferedLookups(DeletionLast):
    """Look rows up only by the fields that the list offers.

    Django lets staff ask for any column of the row, with any comparison: `?password__startswith=` guesses it letter by
    letter, and `?secret__gt=` is a server error.
    """

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        # Text that no column can hold, or a year of thirty digits: answered as Django answers other invalid look-ups.
        refused = HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        if any("\0" in value for name, values in request.GET.lists() if name != SEARCH_VAR for value in values):
            return refused
        try:
            return super().changelist_view(request, extra_context)
        except OverflowError:
            return refused

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        offered = {f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day")}
        for item in self.list_filter:
            if isinstance(item, str):
                offered |= {item} | {f"{item}__{end}" for end in ("exact", "isnull", "gte", "lt", "id__exact")}
            else:
                offered.add(cast(Any, item).parameter_name)
        return lookup in offered


class ReadOnlyAdmin(OfferedLookups):
    """Shows rows that belong to a user and sort by time, newest first, from a table of any size."""

    date_hierarchy = "created_at"
    list_select_related = ("user",)
    ordering = ("-pk",)
    search_help_text = _("Search by username, email address, IP address or session ID.")
    show_full_result_count = False
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TimeOrderedList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # The links on a user's page use it.
        return lookup == "user__exact" or super().lookup_allowed(lookup, value, request)

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        user = get_user_model()
        named_by = filter(_has_field, (user.USERNAME_FIELD, user.get_email_field_name()))
        return [*(f"user__{field}" for field in named_by), *self.search_fields]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("device"))
    def device(self, row: Session | SecurityEvent) -> str:
        return describe(row.user_agent)

    class Media:
        css = {"all": ("latchkey/admin.css",)}


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    list_display = (
        "user",
        "status",
        "device",
        "last_used",
        "expires",
        "ip_address",
        "ended",
        "created_at",
    )
    list_filter = (StatusFilter, "revoked_reason", "created_at")
    search_fields = ("=id", "ip_address")
    fields = readonly_fields = (
        "id",
        "user",
        "status",
        "device",
        "user_agent",
        "device_name",
        "ip_address",
        "created_at",
        "reauthenticated_at",
        "rotated_at",
        "generation",
        "expires_at",
        "ends_at",
        "remembered",
        "revoked_at",
        "revoked_reason",
        "revoked_by",
        "revoked_from",
    )
    actions = ("revoke_selected", "revoke_all_of_users")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("latchkey.change_session")

    @admin.display(description=_("status"))
    def status(self, session: Session) -> str:
        return format_html('<span class="session-status {}">{}</span>', *_status(session))

    # With a label beside the value, for a screen without room for column headings.

    @admin.display(description=_("last used"))
    def last_used(self, session: Session) -> str:
        return _labelled(_("last used"), session.rotated_at)

    @admin.display(description=_("expires"))
    def expires(self, session: Session) -> str:
        return _labelled(_("expires"), session.expires_at)

    @admin.display(description=_("ended"))
    def ended(self, session: Session) -> str:
        """Return when it was revoked, by whom and from where."""
        if not session.revoked_at:
            return ""
        parts = [localize(template_localtime(session.revoked_at))]
        if session.revoked_by:
            parts.append(_("by %(name)s") % {"name": session.revoked_by})
        if session.revoked_from:
            parts.append(_("from %(address)s") % {"address": session.revoked_from})
        return format_html_join(" ", '<span class="session-ended">{}</span>', ((part,) for part in parts))

    @admin.display(description=_("maximum lifetime ends"))
    def ends_at(self, session: Session) -> str:
        return str(localize(template_localtime(session.ends_at())))

    @admin.action(description=_("Revoke selected sessions"), permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: SessionQuerySet) -> None:
        self._report(request, self._revoke(request, queryset))

    @admin.action(description=_("Revoke all sessions of these users"), permissions=["revoke"])
    def revoke_all_of_users(self, request: HttpRequest, queryset: SessionQuerySet) -> None:
        # Read before anything is revoked: a revocation may remove sessions from the filtered list.
        chosen = list(queryset.order_by().values_list("user", flat=True).distinct())
        batches = [chosen[start : start + BATCH_SIZE] for start in range(0, len(chosen), BATCH_SIZE)]
        for batch in batches:
            owners = users.rows(router.db_for_write(Session)).filter(pk__in=batch)
            for owner in within_reach(cast(User, request.user), owners) if cutoffs.are_kept() else ():
                cutoffs.end(owner)
        self._report(request, sum(self._revoke(request, Session.objects.filter(user__in=batch)) for batch in batches))

    def has_delete_permission(self, request: HttpRequest, obj: Session | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or may_act_on(request.user, obj.user))

    def delete_model(self, request: HttpRequest, obj: Session) -> None:
        self.delete_queryset(request, Session.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Revoke, then delete, so the receivers of `sessions_revoked` hear of sessions that end by deletion."""
        for __, some in ranges(queryset, BATCH_SIZE):
            with transaction.atomic(using=router.db_for_write(Session)):
                # By key: a revocation may remove sessions from the filtered list.
                chosen = Session.objects.filter(pk__in=list(some.values_list("pk", flat=True)))
                sessions.revoke_these(chosen.live(), Reason.STAFF, client_of(request), cast(User, request.user))
                super().delete_queryset(request, chosen)

    def _revoke(self, request: HttpRequest, chosen: SessionQuerySet) -> int:
        """Revoke the active ones, and write that into the admin's own log; return their number."""
        count, by, using = 0, cast(User, request.user), router.db_for_write(Session)
        for __, some in ranges(chosen.live(), BATCH_SIZE):
            owners = within_reach(by, users.rows(using).filter(pk__in=some.values("user")))
            with transaction.atomic(using=using):
                revoked = sessions.revoke_these(
                    some.filter(user__in=[owner.pk for owner in owners]), Reason.STAFF, client_of(request), by
                )
                LogEntry.objects.log_actions(cast(int, by.pk), revoked, CHANGE, gettext("Revoked."))
            count += len(revoked)
        return count

    def _report(self, request: HttpRequest, revoked: int) -> None:
        if revoked:
            message = ngettext("%(count)d session was revoked.", "%(count)d sessions were revoked.", revoked)
            self.message_user(request, message % {"count": revoked}, messages.SUCCESS)
        else:
            self.message_user(request, _("There were no active sessions to revoke."), messages.WARNING)


@admin.register(SecurityEvent)
class SecurityEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "event", "user", "ip_address", "device", "times", "cause", "session")
    list_filter = (KindFilter, "reason", "created_at")
    search_fields = ("=session", "ip_address")
    fields = readonly_fields = (
        "created_at",
        "event",
        "user",
        "ip_address",
        "device",
        "user_agent",
        "count",
        "session",
        "reason",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # A user's log is deleted with the user, by staff with the permission for both. The log's own pages delete
        # nothing.
        page = request.resolver_match
        on_own_page = page is not None and f"{page.url_name}".startswith("latchkey_securityevent_")
        return not on_own_page and super().has_delete_permission(request, obj)

    @admin.display(description=_("event"))
    def event(self, event: SecurityEvent) -> str:
        return str(dict(kinds.choices()).get(event.kind, event.kind))

    # Empty if there is nothing to show, so a phone shows no line for it.

    @admin.display(description=_("count"), empty_value="")
    def times(self, event: SecurityEvent) -> str:
        return f"\N{MULTIPLICATION SIGN} {localize(event.count)}" if event.count > 1 else ""

    @admin.display(description=_("reason"), empty_value="")
    def cause(self, event: SecurityEvent) -> str:
        return event.get_reason_display()


def _status(session: Session) -> tuple[str, str | Promise]:
    """Return the status as a CSS class and as words."""
    if session.revoked_at:
        sort = "reused" if session.revoked_reason == Reason.REUSED else "ended"
        return sort, _("ended: %(reason)s") % {"reason": session.get_revoked_reason_display()}
    if session.expires_at <= times.now():
        return "ended", _("expired")
    if not session.user.is_active:
        return "ended", _("user deactivated")
    return ("ended", _("ended by a password change")) if session.password_changed else ("active", _("active"))


def _labelled(label: str | Promise, moment: datetime) -> str:
    return format_html('<span class="session-label">{}</span> {}', label, localize(template_localtime(moment)))


def _has_field(name: str) -> bool:
    """Return whether the user model has a field of that name."""
    try:
        get_user_model()._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def _ended() -> Q:
    """Return the condition for sessions that have ended without being revoked or expired."""
    live = Session.objects.live()
    logins = dict(live.order_by("-pk").values_list("auth_hash", "user")[:LOOKED_THROUGH])
    owners = users.rows(live.db).in_bulk([*{*logins.values()}])
    now_good = {fingerprint for owner in owners.values() for fingerprint in fingerprints(owner)}
    changed = Q(auth_hash__in=[*logins.keys() - now_good])
    return changed | Q(user__is_active=False) if _has_field("is_active") else changed
