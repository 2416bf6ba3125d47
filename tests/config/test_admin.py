"""The admin's first page."""

import re
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.clients import PASSWORD, Browser
from tokens.models import Session
from tokens.templatetags import history, sessions


@pytest.fixture
def admin(db: None) -> Any:
    """Return the text of the admin's first page for staff."""
    staff = User.objects.create_user("sue", password=PASSWORD, is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_session", "view_securityevent"]))
    client = Client()
    client.force_login(staff)

    def admin(path: str = "/admin/") -> str:
        return re.sub(r"\s+", " ", strip_tags(client.get(path).content.decode()))

    return admin


def test_index_counts_active_sessions_and_the_last_days_events(admin: Any) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    browsers = [Browser() for _ in range(3)]
    for browser in browsers:
        browser.login()
    browsers[0].logout()
    browsers[1].login("ann", "wrong")
    browsers[1].login("ann", "wrong")
    line = "Active sessions: 3. In the last 24 hours: signed in: 4, failed sign-in: 2, refresh token used twice: 0."
    assert line in admin()
    assert "Live sessions" not in admin("/admin/latchkey/")


def test_counts_cover_the_last_24_hours(admin: Any, time_machine: TimeMachineFixture) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    Browser().login()
    time_machine.move_to(datetime.now(UTC) + timedelta(hours=25))
    assert "Active sessions: 2. In the last 24 hours: signed in: 0" in admin()


def test_session_count_has_an_upper_bound(admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    for _ in range(3):
        Browser().login()
    monkeypatch.setattr(sessions, "MOST", 2)
    assert "Active sessions: 2+." in admin()


def test_staff_who_may_not_see_sessions_get_no_numbers(admin: Any) -> None:
    User.objects.get(username="sue").user_permissions.clear()
    assert "Active sessions" not in admin()
    assert Session.objects.count() == 1


def drawn(page: str) -> dict[str, int]:
    """Return what the first page draws: the count of each row in thirty days."""
    found = re.findall(r"<title id=[^>]*>(.*?)</title>\s*<desc[^>]*>(\d+) in thirty days", page)
    return {name: int(total) for name, total in found}


def test_index_draws_the_last_thirty_days(admin: Any, time_machine: TimeMachineFixture) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    time_machine.move_to("2030-01-01T23:59:59Z", tick=False)
    Browser().login()  # a second too long ago
    time_machine.move_to("2030-01-02T00:00:00Z", tick=False)
    for _ in range(2):
        Browser().login("ann", "wrong")
    victim, leaver = Browser(), Browser()
    victim.login()
    thief = Browser()
    thief.cookie = victim.cookie
    for _ in range(2):
        time_machine.shift(timedelta(minutes=1))
        victim.refresh()
    thief.refresh()
    time_machine.move_to("2030-01-31T12:00:00Z", tick=False)
    leaver.login()
    leaver.logout()
    client = Client()
    client.force_login(User.objects.get(username="sue"))
    page = client.get("/admin/").content.decode()
    assert drawn(page) == {"signed in": 3, "failed sign-in": 2, "refresh token used twice": 1, "signed out": 1}
    days = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page)
    counts_of_day = {day: re.findall(r"<td>(\d+)</td>", counts) for day, counts in days}
    assert len(counts_of_day) == 30
    assert counts_of_day.pop("Jan. 31, 2030") == ["2", "0", "0", "1"]
    assert counts_of_day.pop("Jan. 2, 2030") == ["1", "2", "1", "0"]
    assert {*chain(*counts_of_day.values())} == {"0"}
    # Of two sign-ins and of one, the bars are of full and of half the height.
    assert re.findall(r'<rect x="(\d+)" y="(\d+)" width="8" height="(\d+)">', page)[:2] == [
        ("0", "20", "20"),
        ("290", "0", "40"),
    ]


def test_thirty_days_are_counted_with_one_statement(admin: Any) -> None:
    with CaptureQueriesContext(connection) as asked:
        days, by_kind, by_reason = history.count()
    assert (len(asked), len(days), sum(by_kind["login"].values()), by_reason[""]) == (1, 30, 1, by_kind["login"])


def test_staff_who_may_not_see_the_log_get_no_days(admin: Any) -> None:
    assert "The last thirty days" in admin()
    assert "The last thirty days" not in admin("/admin/latchkey/")
    User.objects.get(username="sue").user_permissions.remove(Permission.objects.get(codename="view_securityevent"))
    assert "The last thirty days" not in admin()
