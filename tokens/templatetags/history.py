"""Draws the last thirty days of the security log, so staff can see suspicious activity without other tools."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django import template
from django.db.models import Case, Q, Sum, When
from django.utils.functional import Promise
from django.utils.timezone import get_current_timezone

from .. import kinds, times
from ..models import Reason, SecurityEvent, uuid7_floor

register = template.Library()

DAYS = 30
WIDTH, HEIGHT = 10, 40
"""The width of a day and the height of the highest bar. They have no unit: a drawing scales to its place."""


@dataclass(frozen=True)
class Bar:
    """A day of a drawing."""

    day: date
    count: int
    x: int
    y: int
    height: int


@dataclass(frozen=True)
class Row:
    """A count with the drawing of its days, oldest first."""

    label: str | Promise
    query: str
    """The query that lists these events in the admin."""

    is_alarming: bool
    bars: Sequence[Bar]

    @property
    def total(self) -> int:
        return sum(bar.count for bar in self.bars)

    @property
    def peak(self) -> int:
        return max(bar.count for bar in self.bars)


@register.inclusion_tag("latchkey/history.html", takes_context=True)
def security_history(context: template.Context) -> dict[str, Any]:
    """Draw sign-ins, failed sign-ins, reuse, and endings by reason; nothing for staff without the permission."""
    if not context["request"].user.has_perm("latchkey.view_securityevent"):
        return {}
    days, by_kind, by_reason = count()
    rows = [
        _row(kind.label, f"kind={kind}", days, by_kind[kind], is_alarming=kind != kinds.LOGIN)
        for kind in (kinds.LOGIN, kinds.LOGIN_FAILED, kinds.TOKEN_REUSED)
    ]
    endings = [
        _row(reason.label, f"reason__exact={reason}", days, by_reason[reason])
        for reason in Reason
        if reason in by_reason and reason != Reason.REUSED  # which has a row of its own
    ]
    newest_first = [*zip(*(reversed(row.bars) for row in (*rows, *endings)), strict=True)]
    return {"rows": rows, "endings": endings, "days": newest_first}


Counts = defaultdict[str, dict[int, int]]
"""Numbers of events: by kind or reason, then by day."""


def count() -> tuple[Sequence[date], Counts, Counts]:
    """Return the days and their counts by kind and by the reason of an ending, in one statement."""
    zone = get_current_timezone()
    today = times.now().astimezone(zone).date()
    days = [today - timedelta(days=n) for n in range(DAYS)]
    starts = [datetime.combine(day, time(), zone) for day in days]
    # By the primary key, which sorts by time. An hourly row has the key of the hour's start.
    lately = SecurityEvent.objects.filter(
        pk__gte=uuid7_floor(starts[-1] - timedelta(hours=1)), created_at__gte=starts[-1]
    )
    shown = lately.filter(Q(kind__in=[kinds.LOGIN, kinds.LOGIN_FAILED]) | ~Q(reason="")).order_by()
    day = Case(*(When(created_at__gte=start, then=n) for n, start in enumerate(starts)))
    by_kind, by_reason = Counts(dict), Counts(dict)
    for n, kind, reason, number in shown.annotate(day=day).values_list("day", "kind", "reason").annotate(Sum("count")):
        for counts, key in ((by_kind, kind), (by_reason, reason)):
            counts[key][n] = counts[key].get(n, 0) + number
    return days, by_kind, by_reason


def _row(
    label: str | Promise, query: str, days: Sequence[date], counts: dict[int, int], *, is_alarming: bool = False
) -> Row:
    peak = max(counts.values(), default=1)
    bars = []
    for x, n in enumerate(reversed(range(DAYS))):
        number = counts.get(n, 0)
        # Even the lowest bar can be seen.
        height = max(round(HEIGHT * number / peak), 2) if number else 0
        bars.append(Bar(days[n], number, x * WIDTH, HEIGHT - height, height))
    return Row(label, query, is_alarming, bars)
