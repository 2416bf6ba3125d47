"""The summary on the admin's first page."""

from datetime import timedelta
from typing import Any

from django import template
from django.db.models import Sum

from .. import kinds, times
from ..conf import conf
from ..models import SecurityEvent, Session, uuid7_floor

register = template.Library()

MOST = 10_000
"""The most active sessions to count, so the page is fast with any number of them."""


@register.inclusion_tag("latchkey/summary.html", takes_context=True)
def session_summary(context: template.Context) -> dict[str, Any]:
    """Count the active sessions and the last day's events; nothing for staff without the permissions."""
    user, now = context["request"].user, times.now()
    if not user.has_perms(["latchkey.view_session", "latchkey.view_securityevent"]):
        return {}
    # By the primary key, which sorts by time: no other column of this query has an index.
    live = Session.objects.live().filter(pk__gte=uuid7_floor(now - conf.session_lifetime))[: MOST + 1].count()
    events = SecurityEvent.objects.filter(pk__gte=uuid7_floor(now - timedelta(days=1))).order_by()
    counts = dict(events.values_list("kind").annotate(Sum("count")))
    shown = (kinds.LOGIN, kinds.LOGIN_FAILED, kinds.TOKEN_REUSED)
    return {
        "live": min(live, MOST),
        "more": live > MOST,
        "events": [(kind, kind.label, counts.get(kind, 0)) for kind in shown],
    }
