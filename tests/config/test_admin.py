"""The admin's first page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils.html import strip_tags
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.clients import PASSWORD, Browser
from tokens.models import Session
from tokens.templatetags import sessions


@pytest.fixture
def admin(db: None) -> Any:
    """Return the text of the admin's first page, as staff sees it."""
    staff = User.objects.create_user("sue", password=PASSWORD, is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_session", "view_securityevent"]))
    client = Client()
    client.force_login(staff)

    def admin(path: str = "/admin/") -> str:
        return re.sub(r"\s+", " ", strip_tags(client.get(path).content.decode()))

    return admin


def test_first_page_counts_what_is_live_and_what_happened_in_a_day(admin: Any) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    browsers = [Browser() for _ in range(3)]
    for browser in browsers:
        browser.login()
    browsers[0].logout()
    browsers[1].login("ann", "wrong")
    browsers[1].login("ann", "wrong")
    line = "Live sessions: 3. In the last day: signed in: 4, failed sign-in: 2, refresh token used twice: 0."
    assert line in admin()
    assert "Live sessions" not in admin("/admin/latchkey/")


def test_day_ends(admin: Any, time_machine: TimeMachineFixture) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    Browser().login()
    time_machine.move_to(datetime.now(UTC) + timedelta(hours=25))
    assert "Live sessions: 2. In the last day: signed in: 0" in admin()


def test_more_sessions_than_are_counted_are_told_as_such(admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    for _ in range(3):
        Browser().login()
    monkeypatch.setattr(sessions, "MOST", 2)
    assert "Live sessions: 2+." in admin()


def test_whoever_may_not_see_sessions_is_told_no_numbers(admin: Any) -> None:
    User.objects.get(username="sue").user_permissions.clear()
    assert "Live sessions" not in admin()
    assert Session.objects.count() == 1
