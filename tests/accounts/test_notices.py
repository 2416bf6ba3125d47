"""The mails to the owner of an account."""

from datetime import timedelta
from io import StringIO
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.core import mail
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import Mail, User
from accounts.owner import address, password, username
from tests.accounts.devices import Device, challenge, confirm, enrol, set_up
from tests.clients import PASSWORD, Browser
from tests.racing import await_somebody_who_waits, in_parallel
from tokens import kinds
from tokens.domain import events, sessions
from tokens.domain.client import Client as Agent
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.usefixtures("clock")

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
NEWER_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def ann(ann: User) -> User:
    """The owner of a verified address; nobody else gets notices."""
    ann.email_verified = True
    ann.save()
    return ann


@pytest.fixture(autouse=True)
def notices(settings: Settings) -> None:
    settings.NOTICES = ["all"]


def mails() -> list[tuple[str, str]]:
    """Send the queued mails; return the subjects and the recipients."""
    mail.outbox = []
    outbox.deliver()
    assert not Mail.objects.exists()
    return [(str(message.subject), ", ".join(message.to)) for message in mail.outbox]


def test_sign_in_from_a_new_device_sends_a_notice_but_not_the_first_ever(ann: User, clock: TimeMachineFixture) -> None:
    Browser(FIREFOX).login()
    assert mails() == []
    clock.shift(60)
    Browser(NEWER_FIREFOX).login()
    assert mails() == []
    clock.shift(60)
    Browser(SAFARI).login(REMOTE_ADDR="192.0.2.7")
    assert mails() == [("A sign-in from a new device", "ann@example.com")]
    body = str(mail.outbox[0].body)
    assert "2030-01-01 12:02 (UTC)" in body
    assert "Mobile Safari on iOS, from 192.0.2.7" in body
    clock.shift(60)
    Browser(SAFARI).login()
    assert mails() == []


def test_sign_in_to_the_admin_is_logged_and_sends_a_notice(ann: User, clock: TimeMachineFixture) -> None:
    User.objects.update(is_staff=True)
    form = {"username": "ann", "password": PASSWORD, "next": "/admin/"}

    def sign_in(agent: str, **changes: str) -> int:
        clock.shift(60)
        client = Client(REMOTE_ADDR="192.0.2.7", headers={"user-agent": agent})
        status: int = client.post("/admin/login/", form | changes).status_code
        return status

    Browser(FIREFOX).login()
    assert sign_in(NEWER_FIREFOX) == 302
    assert mails() == []
    assert sign_in(SAFARI, password="wrong") == 200
    assert sign_in(SAFARI) == 302
    assert mails() == [("A sign-in from a new device", "ann@example.com")]
    assert "2030-01-01 12:03 (UTC)" in str(mail.outbox[0].body)
    assert "Mobile Safari on iOS, from 192.0.2.7" in str(mail.outbox[0].body)
    assert sign_in(SAFARI) == 302
    assert mails() == []
    begun = Session.objects.filter(ip_address="192.0.2.7")
    logged = SecurityEvent.objects.filter(kind="login", ip_address="192.0.2.7")
    assert {event.session for event in logged} == {session.pk for session in begun}
    assert len(begun) == 3


def test_sign_in_to_the_admin_of_a_deleted_account_sends_no_notice(ann: User, clock: TimeMachineFixture) -> None:
    Browser(FIREFOX).login()
    mails()
    clock.shift(60)
    events.announce(kinds.LOGIN, ann)
    ann.delete()
    assert mails() == []


def test_sign_in_whose_session_was_deleted_sends_no_notice(ann: User, clock: TimeMachineFixture) -> None:
    Browser(FIREFOX).login()
    clock.shift(60)
    Browser(SAFARI).login()
    Session.objects.all().delete()
    assert mails() == []


def test_account_without_an_address_gets_no_notice(ann: User) -> None:
    User.objects.update(email="", email_key=None)
    Browser(FIREFOX).login()
    assert not Mail.objects.exists()


def test_reuse_is_told(ann: User, clock: TimeMachineFixture) -> None:
    browser = Browser(FIREFOX)
    browser.login()
    first = browser.cookie
    for _ in range(2):
        browser.refresh()
        clock.shift(11)
    assert browser.refresh(first, REMOTE_ADDR="203.0.113.66").json()["code"] == "token_reused"
    assert mails() == [("You were signed out for your safety", "ann@example.com")]
    body = str(mail.outbox[0].body)
    assert "Firefox on Linux, last used from 127.0.0.1" in body
    assert "so someone else may have a copy. Device: Firefox on Linux, from 203.0.113.66." in body


def test_mail_without_a_known_ip_address_names_none(ann: User) -> None:
    session = sessions.start(ann)
    sessions.revoke(session, Reason.REUSED)
    assert mails() == [("You were signed out for your safety", "ann@example.com")]
    body = str(mail.outbox[0].body)
    assert "last used from an unknown address" in body
    assert "It was done" not in body


def test_unverified_address_gets_no_notice(ann: User, clock: TimeMachineFixture) -> None:
    User.objects.update(email_verified=False)
    ann.refresh_from_db()
    browser = Browser(FIREFOX)
    browser.login()
    clock.shift(60)
    Browser(SAFARI).login()
    sessions.revoke(sessions.start(ann), Reason.REUSED)
    password.replace_password(live_session(), "another password entirely")
    ann.refresh_from_db()
    username.change_username(ann, "anna")
    address.change_email(ann, "")
    assert mails() == []


def live_session() -> Session:
    session: Session = Session.objects.live().latest("pk")
    return session


@pytest.mark.parametrize("route", ["api", "admin"])
def test_notice_of_a_new_username_does_not_quote_it(ann: User, admin_client: Client, route: str) -> None:
    if route == "api":
        browser = Browser(FIREFOX)
        browser.login()
        browser.http.credentials(HTTP_AUTHORIZATION=f"Bearer {browser.access}")
        assert browser.http.patch("/api/me/", {"username": "prize.example.com"}, format="json").status_code == 200
        assert browser.http.patch("/api/me/", {"username": "prize.example.com"}, format="json").status_code == 200
    else:
        page = f"/admin/accounts/user/{ann.pk}/change/"
        response: Any = admin_client.get(page)
        form = {"username": "prize.example.com", "email": "anna@example.com", "is_active": "on"}
        for formset in response.context["inline_admin_formsets"]:
            form |= {f"{formset.formset.prefix}-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
        assert admin_client.post(page, form).status_code == 302
    assert User.objects.get(pk=ann.pk).username == "prize.example.com"
    changed = [("Your username was changed", "ann@example.com")]
    moved = [("Your email address was changed", "ann@example.com")] if route == "admin" else []
    assert sorted(mails()) == sorted(changed + moved)
    assert not any("prize" in str(message.message()) for message in mail.outbox)
    assert SecurityEvent.objects.filter(user=ann, kind="username_changed").count() == 1


HOSTILE = "Account locked: call 555-0100 now/1.0 CFNetwork/1408 Darwin/22.0"


def test_mail_never_quotes_a_device_name_chosen_by_a_client(ann: User, clock: TimeMachineFixture) -> None:
    Browser(FIREFOX).login()
    clock.shift(60)
    assert Browser(HOSTILE).login().status_code == 200
    session = Session.objects.latest("created_at")
    assert sessions.rename(session, "Call 555-0100")
    sessions.revoke(session, Reason.REUSED, Agent("192.0.2.9", HOSTILE))
    password.replace_password(live_session(), "another password entirely", Agent("192.0.2.9", HOSTILE))
    assert [subject for subject, _ in mails()] == [
        "A sign-in from a new device",
        "You were signed out for your safety",
        "Your password was changed",
    ]
    assert not any("555-0100" in str(message.message()) for message in mail.outbox)
    assert "iOS, from 127.0.0.1" in str(mail.outbox[0].body)


def test_failed_delivery_does_not_count_toward_a_limit(
    ann: User, settings: Settings, clock: TimeMachineFixture
) -> None:
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, "tests.accounts.mails.Refusing"
    password.replace_password(sessions.start(ann), "another password entirely")
    outbox.deliver()
    settings.EMAIL_BACKEND = working
    clock.shift(120)
    assert mails() == [("Your password was changed", "ann@example.com")]


ADDRESS = "192.0.2.7"
ROUTES = {
    "api": ADDRESS,
    "admin": ADDRESS,
    "own, in the admin": ADDRESS,
    "shell": None,
    "hash": None,
    "unusable": None,
    "command": None,
}


@pytest.mark.parametrize(("route", "address"), ROUTES.items())
def test_password_change_by_any_route_is_logged_and_sends_a_notice(
    ann: User, route: str, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = "another password entirely"
    match route:
        case "api":
            browser = Browser()
            browser.login()
            body = {"currentPassword": PASSWORD, "newPassword": new}
            answer = browser.post("/auth/password/change", body, access=browser.access, REMOTE_ADDR=ADDRESS)
            assert answer.status_code == 200
        case "admin":
            root = User.objects.create_superuser("root", "", PASSWORD)
            form = {"usable_password": "true", "password1": new, "password2": new}
            assert signed_in(root).post(f"/admin/accounts/user/{ann.pk}/password/", form).status_code == 302
        case "own, in the admin":
            User.objects.update(is_staff=True)
            form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
            assert signed_in(ann).post("/admin/password_change/", form).status_code == 302
        case "shell":
            ann.set_password(new)
            ann.save()
        case "hash":
            ann.password = make_password(new)
            ann.save(update_fields=["password"])
        case "unusable":
            ann.set_unusable_password()
            ann.save()
        case "command":
            monkeypatch.setattr("getpass.getpass", lambda **_kwargs: new)
            call_command("changepassword", "ann", stdout=StringIO())
    assert User.objects.get(username="ann").check_password(new) is (route != "unusable")
    assert mails() == [("Your password was changed", "ann@example.com")]
    assert (f"from {ADDRESS}." in str(mail.outbox[0].body)) is (address is not None)
    [event] = SecurityEvent.objects.exclude(kind__in=["login", "session_revoked"])
    assert (event.kind, event.user, event.ip_address) == ("password_changed", ann, address)


def signed_in(user: User) -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(user)
    return client


def test_save_without_a_new_password_sends_no_notice(ann: User) -> None:
    ann.save()
    ann.set_password("another password entirely")
    ann.save(update_fields=["is_staff"])
    assert (mails(), SecurityEvent.objects.count()) == ([], 0)


@pytest.mark.django_db(transaction=True)
def test_unsaved_password_sends_no_notice(ann: User) -> None:
    User.objects.create_user("bob")
    ann.username = "bob"
    ann.set_password("another password entirely")
    with pytest.raises(IntegrityError):
        ann.save()
    assert (mails(), SecurityEvent.objects.count()) == ([], 0)


def test_notice_of_a_password_goes_to_the_former_address(ann: User) -> None:
    ann.email = "thief@example.com"
    ann.set_password("another password entirely")
    ann.save()
    assert mails() == [("Your password was changed", "ann@example.com")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_old_password_restored_by_a_stale_save_sends_a_notice(ann: User) -> None:
    stale = User.objects.get(pk=ann.pk)

    def change() -> None:
        with transaction.atomic():
            ann.set_password("another password entirely")
            ann.save()
            held.set()
            await_somebody_who_waits()

    def save() -> None:
        held.wait(60)
        stale.save()

    held = Event()
    assert in_parallel(change, save) == [None, None]
    assert User.objects.get().check_password(PASSWORD)
    assert mails() == [("Your password was changed", "ann@example.com")] * 2
    assert SecurityEvent.objects.filter(kind="password_changed").count() == 2


def test_second_factor_sends_a_notice_once_enabled(ann: User) -> None:
    browser = Browser()
    browser.login()
    device = Device(enrol(browser).json()["secret"])
    assert confirm(browser, device.wrong()).status_code == 400
    assert mails() == []
    assert confirm(browser, device.code()).status_code == 200
    assert mails() == [("Two-factor authentication was turned on", "ann@example.com")]
    assert "2030-01-01 12:00 (UTC)" in str(mail.outbox[0].body)


def test_used_recovery_code_sends_a_notice_but_not_an_app_code(ann: User, clock: TimeMachineFixture) -> None:
    browser = Browser(FIREFOX)
    browser.login()
    enrolled = set_up(browser)
    mails()
    clock.shift(300)
    assert browser.answer(challenge(browser), enrolled.device.code()).status_code == 200
    assert browser.answer(challenge(browser), "no such code").status_code == 401
    assert mails() == []
    assert browser.answer(challenge(browser), enrolled.codes[0]).status_code == 200
    assert mails() == [("A recovery code was used", "ann@example.com")]


def test_new_recovery_codes_send_a_notice(ann: User, clock: TimeMachineFixture) -> None:
    browser = Browser(FIREFOX)
    browser.login()
    enrolled = set_up(browser)
    mails()
    clock.shift(300)
    for code, answer in ((enrolled.device.wrong(), 400), (enrolled.device.code(), 200)):
        assert mails() == []
        body = {"currentPassword": PASSWORD, "code": code}
        assert browser.post("/auth/second-factor/recovery-codes", body, browser.access).status_code == answer
    assert mails() == [("You have new recovery codes", "ann@example.com")]
    assert "The old ones no longer work. Device: Firefox on Linux, from 127.0.0.1." in str(mail.outbox[0].body)


def test_removed_second_factor_sends_a_notice(ann: User, clock: TimeMachineFixture) -> None:
    browser = Browser()
    browser.login()
    enrolled = set_up(browser)
    mails()
    clock.shift(300)
    for code, answer in ((enrolled.device.wrong(), 400), (enrolled.device.code(), 204)):
        assert mails() == []
        body = {"currentPassword": PASSWORD, "code": code}
        assert browser.post("/auth/second-factor/remove", body, browser.access).status_code == answer
    assert mails() == [("Two-factor authentication was turned off", "ann@example.com")]


def test_second_factor_removed_by_staff_sends_a_notice(ann: User, admin_client: Client) -> None:
    browser = Browser()
    browser.login()
    set_up(browser)
    mails()
    for _ in range(2):
        chosen = {"action": "remove_second_factor", "_selected_action": [ann.pk]}
        assert admin_client.post("/admin/accounts/user/", chosen).status_code == 302
    assert mails() == [("Two-factor authentication was turned off", "ann@example.com")]


def test_new_account_and_other_changes_send_no_notice(ann: User) -> None:
    ann.groups.add(Group.objects.create(name="editors"))
    ann.last_login = timezone.now() - timedelta(days=1)
    ann.save()
    assert mails() == []


def test_each_notice_can_be_turned_off(ann: User, settings: Settings) -> None:
    settings.NOTICES = ["token_reused"]
    Browser().login()
    ann.set_password("another password entirely")
    ann.save()
    assert not Mail.objects.exists()
