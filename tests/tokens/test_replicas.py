"""Projects that read from a replica, which may lag behind: decisions read from the primary database."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import Settings

from tests.clients import App, Browser
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"


class ReadsElsewhere:
    """A router that sends reads to a database that doesn't exist."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


@pytest.fixture
def _replica(settings: Settings, app: App, browser: Browser) -> None:
    """Read from there from now on. Django's own look-up of a user who signs in does so too."""
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]


@pytest.mark.usefixtures("_replica")
def test_sessions_are_read_where_they_are_written(app: App, browser: Browser) -> None:
    assert app.refresh().status_code == 200
    for path, body in (("verify/", {"token": app.refresh_token}), ("blacklist/", {"refresh": app.refresh_token})):
        assert app.http.post(f"/api/token/{path}", body, format="json").status_code == 200
    assert browser.refresh().status_code == 200
    assert browser.post("/auth/logout-all", access=browser.access).status_code == 204


@pytest.mark.usefixtures("_replica")
def test_token_is_revoked_where_it_is_written(app: App, browser: Browser) -> None:
    assert app.http.post("/auth/revoke", f"token={app.access}", content_type=FORM).status_code == 200
    assert browser.logout().status_code == 204


@pytest.mark.usefixtures("_replica")
def test_command_finds_the_user_where_sessions_are_written(settings: Settings) -> None:
    """A replica may not have a password change yet, and so miss the user's sessions."""
    call_command("revoketokens", "--user", "ann", stdout=StringIO())
    settings.DATABASE_ROUTERS = []
    assert {*Session.objects.values_list("revoked_reason", flat=True)} == {Reason.COMMAND}
