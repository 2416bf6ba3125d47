"""A project with USE_TZ off, in the night in which its clocks go back."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import models
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import App, Browser, claims_of
from tokens import times
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session, UTCDateTimeField, uuid7

NIGHT = [datetime(2030, 10, 27, hour, 30, tzinfo=UTC) for hour in (0, 1)]
"""Both are half past two in Berlin."""


@pytest.fixture(autouse=True)
def naive(settings: Settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"


@pytest.mark.parametrize("moment", NIGHT, ids=["before", "after"])
def test_tokens_work_during_the_dst_change(ann: Any, time_machine: TimeMachineFixture, moment: datetime) -> None:
    time_machine.move_to(moment, tick=False)
    app = App()
    assert app.login().status_code == 200
    for _ in range(3):
        claims = claims_of(app.refresh_token)
        assert (claims["iat"], claims["exp"]) == (times.now().timestamp(), times.now().timestamp() + 7 * 86400)
        assert app.verify(app.access).status_code == app.verify(app.refresh_token).status_code == 200
        time_machine.shift(25 * 60)
        assert app.refresh().status_code == 200
    row = Session.objects.get()
    assert (row.created_at, row.rotated_at) == (moment, moment + timedelta(minutes=75))


def test_grace_period_is_not_an_hour_longer_at_the_dst_change(ann: Any, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(NIGHT[0], tick=False)
    browser = Browser()
    browser.login()
    first = browser.cookie
    browser.refresh()
    browser.refresh()  # a use
    time_machine.move_to(NIGHT[1])
    assert browser.refresh(first).json()["code"] == "token_reused"
    assert Session.objects.get().revoked_at == NIGHT[1]


def test_expired_sessions_are_flushed_with_naive_times(ann: Any, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(NIGHT[0], tick=False)
    old, young = sessions.start(ann), sessions.start(ann)
    Session.objects.filter(pk=old.pk).update(expires_at=NIGHT[0])
    Session.objects.filter(pk=young.pk).update(expires_at=NIGHT[0] + timedelta(minutes=59))
    time_machine.shift(60)
    call_command("flushexpiredtokens", verbosity=0)
    assert Session.objects.get() == young
    time_machine.shift(3600)
    call_command("flushexpiredtokens", verbosity=0)
    assert not Session.objects.exists()


@pytest.mark.usefixtures("django_sign_in")
def test_sessions_are_ended_and_listed_with_naive_times(
    ann: Any, admin_user: Any, client: Any, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(NIGHT[1], tick=False)
    sessions.start(ann)
    assert sessions.revoke_all(ann, Reason.STAFF) == 1
    time_machine.shift(86400)  # Django's own sessions do not last through that night
    client.force_login(admin_user)
    for address in ("", "?created_at__year=2030&created_at__month=10", "?status=active"):
        assert client.get(f"/admin/latchkey/session/{address}").status_code == 200
    assert SecurityEvent.objects.filter(created_at=NIGHT[1]).count() == 2


@pytest.mark.parametrize("use_tz", [False, True])
def test_naive_time_is_stored_and_compared_as_the_same_moment(ann: Any, settings: Settings, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    session = sessions.start(ann)
    for moment in NIGHT:
        Session.objects.filter(pk=session.pk).update(rotated_at=moment)
        session.refresh_from_db()
        assert session.rotated_at == moment
        assert session.rotated_at.tzinfo is UTC
        settings.USE_TZ = not settings.USE_TZ
        assert Session.objects.get(rotated_at=moment, rotated_at__lte=moment, rotated_at__gte=str(moment)) == session
        assert not Session.objects.filter(rotated_at__lt=moment).exists()


def test_naive_time_is_taken_as_local(ann: Any) -> None:
    session = sessions.start(ann)
    Session.objects.update(rotated_at=datetime(2030, 7, 1, 14), revoked_at=None)  # noqa: DTZ001 (the subject)
    session.refresh_from_db()
    assert (session.rotated_at, session.revoked_at) == (datetime(2030, 7, 1, 12, tzinfo=UTC), None)


def test_identifiers_sort_by_their_moment() -> None:
    assert uuid7(NIGHT[0]) < uuid7(NIGHT[1])


def test_app_times_do_not_depend_on_project_settings() -> None:
    fields = [field for model in apps.get_app_config("latchkey").get_models() for field in model._meta.fields]
    assert {type(field) for field in fields if isinstance(field, models.DateTimeField)} == {UTCDateTimeField}
    for path in Path(times.__file__).parent.rglob("*.py"):
        assert not re.search(r"timezone\.now|datetime\.now\(\)|datetime\.utcnow", path.read_text()), path
