from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.test import Client
from time_machine import TimeMachineFixture

from accounts.models import User
from config.serving.page_sessions import SessionStore
from tests.clients import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff() -> Client:
    User.objects.create_user("sue", password=PASSWORD, is_staff=True)
    client = Client()
    client.post("/admin/login/", {"username": "sue", "password": PASSWORD})
    return client


def status(client: Client) -> int:
    return client.get("/admin/").status_code


def test_stored_session_key_is_a_hash(staff: Client) -> None:
    assert status(staff) == 200
    thief = Client()
    thief.cookies["sessionid"] = Session.objects.get().session_key
    assert status(thief) == 302


def test_signing_out_leaves_no_row(staff: Client) -> None:
    key = staff.cookies["sessionid"].value
    staff.post("/admin/logout/")
    assert not Session.objects.exists()
    staff.cookies["sessionid"] = key
    assert status(staff) == 302


def test_changed_password_removes_the_former_row(staff: Client) -> None:
    key = staff.cookies["sessionid"].value
    new = "the analytical engine"
    staff.post("/admin/password_change/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert staff.cookies["sessionid"].value != key
    assert Session.objects.count() == 1
    assert status(staff) == 200


def test_expired_row_is_refused(staff: Client, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(datetime.now(UTC) + timedelta(days=15))
    assert status(staff) == 302


def test_asynchronous_code_also_stores_a_hash() -> None:
    async def use() -> None:
        store = SessionStore()
        await store.aset("name", "sue")
        await store.asave()
        key = str(store.session_key)
        assert (await Session.objects.aget()).session_key != key
        assert await SessionStore(key).aget("name") == "sue"
        assert await store.aexists(key)
        await store.adelete()
        assert not await store.aexists(key)

    async_to_sync(use)()
