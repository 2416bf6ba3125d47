import re
from threading import Event
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Permission
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.template import engines
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timezone import localtime
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.factors import encryption, second_factor
from accounts.mail import outbox
from accounts.models import AuthenticatorApp, Mail, RecoveryCode, User
from accounts.owner import password
from tests.accounts.devices import Enrolled, set_up
from tests.accounts.mails import link_in
from tests.clients import PASSWORD, Browser
from tests.racing import await_somebody_who_waits, in_parallel, just_before
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/user/"


@pytest.fixture
def admin(db: None) -> Client:
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def staff(db: None) -> Client:
    """Someone who manages users, and is not a superuser."""
    manager = User.objects.create_user("manager", is_staff=True)
    manager.user_permissions.set(
        Permission.objects.filter(codename__in=["view_user", "add_user", "change_user", "delete_user"])
    )
    client = Client()
    client.force_login(manager)
    return client


def page_of(user: User, suffix: str = "change") -> str:
    return f"{LIST}{user.pk}/{suffix}/"


def form_of(response: Any) -> dict[str, Any]:
    """Return what the form of the page would send unchanged."""
    form = response.context["adminform"].form
    values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    management = {
        f"{formset.formset.prefix}-{name}": 0
        for formset in response.context["inline_admin_formsets"]
        for name in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    return {name: value for name, value in values.items() if value not in (None, False)} | management


def change(admin: Client, user: User, **values: Any) -> Any:
    form = form_of(admin.get(page_of(user))) | values
    return admin.post(page_of(user), {name: value for name, value in form.items() if value is not None})


@pytest.mark.parametrize(
    ("search", "found"),
    [("ÉLODIE", 1), ("e\N{COMBINING ACUTE ACCENT}lo", 1), ("Elodie@EXAMPLE", 1), ("elodie", 1), ("bob", 0)],
)
def test_users_are_found_by_name_or_address_in_any_case(admin: Client, search: str, found: int) -> None:
    User.objects.create_user("Élodie", "elodie@example.com")
    response: Any = admin.get(LIST, {"q": search})
    assert len(response.context["cl"].result_list) == found


def test_list_has_filters_and_a_date_hierarchy(admin: Client, ann: User) -> None:
    response: Any = admin.get(
        LIST, {"email_verified": "1", "is_staff": "1", "date_joined__year": str(ann.date_joined.year)}
    )
    assert response.status_code == 200
    assert not response.context["cl"].result_list


def test_last_sign_in_is_shown_and_sortable(admin: Client, ann: User) -> None:
    User.objects.create_user("bob")
    sessions.start(ann)
    moment = SecurityEvent.objects.get(kind="login", user=ann).created_at
    response: Any = admin.get(LIST, {"o": "-8"})
    shown = [(user.username, user.last_sign_in) for user in response.context["cl"].result_list]
    assert shown[0] == ("ann", moment)
    signed_in = SecurityEvent.objects.get(kind="login", user__username="root").created_at
    assert dict(shown) == {"ann": moment, "root": signed_in, "bob": None}
    assert date_format(localtime(moment), "DATETIME_FORMAT") in admin.get(page_of(ann)).content.decode()


@pytest.mark.parametrize("username", ["ANN", "a@b"])
def test_admin_adds_no_user_with_a_bad_or_taken_name(admin: Client, ann: User, username: str) -> None:
    response: Any = admin.post(f"{LIST}add/", {"username": username, "email": "", "usable_password": "false"})
    assert response.status_code == 200
    assert response.context["adminform"].form.errors.keys() == {"username"}
    assert User.objects.count() == 2


def test_admin_adds_no_user_with_a_taken_address(admin: Client, ann: User) -> None:
    form = {"username": "bob", "email": "ANN@example.com", "usable_password": "false"}
    response: Any = admin.post(f"{LIST}add/", form)
    assert response.context["adminform"].form.errors == {"email": ["This address is taken."]}


def test_superuser_adds_a_user_with_a_password(admin: Client) -> None:
    form = {"username": "Ann", "email": "ann@example.com", "usable_password": "true"}
    assert admin.post(f"{LIST}add/", form | {"password1": PASSWORD, "password2": PASSWORD}).status_code == 302
    user = User.objects.get(username_key="ann")
    assert (user.email, user.email_verified, user.check_password(PASSWORD)) == ("ann@example.com", False, True)


def test_password_that_a_superuser_sets_ends_the_sessions(admin: Client, ann: User, browser: Browser) -> None:
    assert page_of(ann, "password") in admin.get(page_of(ann)).content.decode()
    form = {"usable_password": "true", "password1": "another horse battery", "password2": "another horse battery"}
    wrong = admin.post(page_of(ann, "password"), form | {"password2": "a horse"})
    assert (wrong.status_code, browser.refresh().status_code) == (200, 200)
    assert not SecurityEvent.objects.filter(kind="password_changed").exists()
    assert admin.post(page_of(ann, "password"), form).status_code == 302
    assert SecurityEvent.objects.get(kind="password_changed").user == ann
    assert browser.refresh().json()["code"] == "token_revoked"
    assert browser.login(password="another horse battery").status_code == 200


def test_staff_adds_a_user_without_a_password(staff: Client) -> None:
    page = staff.get(f"{LIST}add/").content.decode()
    assert 'type="password"' not in page
    assert "Then select the user in the list" in page
    form = {"username": "Ann", "email": "ann@example.com", "password": PASSWORD, "usable_password": "true"}
    form |= {"password1": PASSWORD, "password2": PASSWORD}
    assert staff.post(f"{LIST}add/", form).status_code == 302
    user = User.objects.get(username_key="ann")
    assert (user.email, user.email_verified, user.awaiting_verification) == ("ann@example.com", False, False)
    assert not user.has_usable_password()
    assert Browser().login().status_code == 401


def test_address_changed_in_the_admin_is_unverified(admin: Client, ann: User) -> None:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    assert change(admin, ann, email="other@example.com").status_code == 302
    ann.refresh_from_db()
    assert (ann.email, ann.email_key, ann.email_verified) == ("other@example.com", "other@example.com", False)


def test_admin_can_vouch_for_an_address(admin: Client, ann: User) -> None:
    assert change(admin, ann, email="other@example.com", email_verified="on").status_code == 302
    ann.refresh_from_db()
    assert (ann.email, ann.email_verified) == ("other@example.com", True)


def test_other_changes_leave_the_address_verified(admin: Client, ann: User) -> None:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    assert change(admin, ann, username="Anna").status_code == 302
    assert User.objects.get(username_key="anna").email_verified


def test_deactivation_in_the_admin_ends_the_sessions(admin: Client, ann: User, browser: Browser) -> None:
    assert change(admin, ann, is_active=None).status_code == 302
    ended = Session.objects.get(user=ann)
    assert (ended.revoked_reason, ended.revoked_by, ended.revoked_from) == (Reason.DEACTIVATED, "root", "127.0.0.1")


def test_former_address_gets_a_notice_of_a_change_by_staff(
    staff: Client, ann: User, mailoutbox: list[EmailMessage]
) -> None:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    former = ann.email
    assert change(staff, ann, email="other@example.com").status_code == 302
    outbox.deliver()
    (mail,) = mailoutbox
    assert mail.to == [former]
    assert SecurityEvent.objects.get(kind="email_changed").user == ann


@pytest.mark.parametrize("path", ["change", "delete"])
def test_staff_cannot_change_a_superuser(staff: Client, admin: Client, path: str) -> None:
    root = User.objects.get(username="root")
    form = {"username": "root", "email": "thief@example.com", "is_active": "on", "post": "yes"}
    assert staff.post(page_of(root, path), form).status_code == 403
    root.refresh_from_db()
    assert root.email == "root@example.com"


def test_staff_cannot_grant_rights(staff: Client, ann: User) -> None:
    rights = {
        "is_staff": "on",
        "is_superuser": "on",
        "user_permissions": [Permission.objects.get(codename="delete_user").pk],
    }
    assert change(staff, ann, username="anne", **rights).status_code == 302
    ann.refresh_from_db()
    assert (ann.username, ann.is_staff, ann.is_superuser, ann.user_permissions.count()) == ("anne", False, False, 0)


@pytest.mark.parametrize("path", ["change", "delete"])
@pytest.mark.parametrize("is_active", [True, False])
def test_staff_cannot_take_over_users_with_more_rights(staff: Client, ann: User, path: str, is_active: bool) -> None:
    User.objects.filter(pk=ann.pk).update(is_active=is_active, is_staff=True)
    ann.user_permissions.set(Permission.objects.filter(codename="change_session"))
    form = {"username": "ann", "email": "thief@example.com", "is_active": "on", "post": "yes"}
    assert staff.post(page_of(ann, path), form).status_code == 403
    ann.refresh_from_db()
    assert (ann.email, ann.is_active) == ("ann@example.com", is_active)
    ann.user_permissions.set(Permission.objects.filter(codename="view_user"))
    assert change(staff, ann, email="other@example.com").status_code == 302


def test_user_with_a_thousand_sessions_is_saved(admin: Client, ann: User) -> None:
    now = timezone.now()
    Session.objects.bulk_create(
        Session(user=ann, created_at=now, rotated_at=now, expires_at=now, auth_hash="") for _ in range(1000)
    )
    with CaptureQueriesContext(connection) as queries:
        page: Any = admin.get(page_of(ann))
    assert len(queries) < 20
    shown, _ = page.context["inline_admin_formsets"]
    assert len(shown.formset.forms) == 10
    forms = [form for formset in page.context["inline_admin_formsets"] for form in formset.formset.forms]
    keys = {f"{form.prefix}-{name}": str(form[name].value()) for form in forms for name in form.fields}
    counted = {f"{shown.formset.prefix}-{name}": 100 for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    assert admin.post(page_of(ann), form_of(page) | keys | counted | {"username": "anne"}).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_own_password_changes_once_under_parallel_requests(admin: Client) -> None:
    cookies = admin.cookies

    def change(number: int) -> Any:
        client, new = Client(), f"another horse battery {number}"
        client.cookies = cookies
        form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
        return client.post("/admin/password_change/", form)

    answers = in_parallel(*[lambda number=number: change(number) for number in range(6)])
    # A late request is refused, or has to sign in again.
    done = [
        number
        for number, answer in enumerate(answers)
        if answer.headers.get("Location") == "/admin/password_change/done/"
    ]
    assert len(done) == 1
    assert User.objects.get().check_password(f"another horse battery {done[0]}")
    assert SecurityEvent.objects.filter(kind="password_changed").count() == 1


@pytest.mark.parametrize("change", [{"password": "!"}, {"is_active": False}])
def test_own_password_change_is_refused_after_a_simultaneous_change(admin: Client, change: dict[str, Any]) -> None:
    new = "another horse battery"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    with just_before("SAVEPOINT", lambda: User.objects.update(**change)):
        response: Any = admin.post("/admin/password_change/", form)
    assert (response.status_code, response.context["form"].errors) == (
        200,
        {"old_password": ["That password is wrong."]},
    )
    assert not User.objects.get().check_password(new)
    assert User.objects.filter(**change).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_form_does_not_undo_a_simultaneous_change(admin: Client, ann: User) -> None:
    form = form_of(admin.get(page_of(ann))) | {"username": "anne"}
    held = Event()

    def reset() -> None:
        with transaction.atomic():
            password.replace_password(sessions.start(ann), "another horse battery")
            held.set()
            await_somebody_who_waits()

    def save() -> Any:
        held.wait(60)
        return admin.post(page_of(ann), form)

    _, response = in_parallel(reset, save)
    assert response.status_code == 302
    ann.refresh_from_db()
    assert (ann.username, ann.check_password("another horse battery")) == ("anne", True)


@pytest.mark.parametrize("identifier", ["987654321", "nonsense", "9" * 100])
def test_missing_user_has_no_page(admin: Client, identifier: str) -> None:
    path = f"{LIST}{identifier}/change/"
    assert [ask(path).status_code for ask in (admin.get, admin.post)] == [302, 302]
    assert [ask(f"{LIST}{identifier}/password/").status_code for ask in (admin.get, admin.post)] == [404, 404]


@pytest.mark.parametrize("path", ["r/1/1/", "r/9/nonsense/"])
def test_shortcut_urls_of_content_types_are_off(admin: Client, path: str) -> None:
    assert admin.get(f"/admin/{path}").status_code == 404


def test_staff_cannot_choose_a_password(staff: Client, ann: User, browser: Browser) -> None:
    form = {"password1": "another horse battery", "password2": "another horse battery", "usable_password": "true"}
    assert [ask(page_of(ann, "password")).status_code for ask in (staff.get, staff.post)] == [403, 403]
    assert staff.post(page_of(ann, "password"), form).status_code == 403
    assert change(staff, ann, password=make_password("another horse battery"), **form).status_code == 302
    before, ann = ann, User.objects.get(pk=ann.pk)
    assert ann.password == before.password
    assert browser.refresh().status_code == 200
    page = staff.get(page_of(ann)).content.decode()
    assert "/password/" not in page.replace("/admin/password_change/", "")


def test_own_password_change_needs_the_current_one(admin: Client) -> None:
    new = "another horse battery"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    wrong: Any = admin.post("/admin/password_change/", form | {"old_password": "wrong"})
    assert wrong.status_code == 200
    assert wrong.context["form"].errors.keys() == {"old_password"}
    assert User.objects.get().check_password(PASSWORD)
    assert SecurityEvent.objects.filter(kind="login_failed").count() == 1
    assert admin.post("/admin/password_change/", form).status_code == 302
    assert User.objects.get().check_password(new)
    assert admin.get("/admin/").status_code == 200


def test_guesses_of_the_own_password_are_limited(admin: Client, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"password": (1, 60.0)}
    new = "another horse battery"
    form = {"old_password": "wrong", "new_password1": new, "new_password2": new}
    admin.post("/admin/password_change/", form)
    response: Any = admin.post("/admin/password_change/", form | {"old_password": PASSWORD})
    assert (response.status_code, response["Retry-After"]) == (429, "60")
    throttled = ["Too many tries. Try again in 60 seconds."]
    assert response.context["form"].errors == {"old_password": throttled}
    assert User.objects.get().check_password(PASSWORD)


def test_page_shows_the_users_sessions_read_only(admin: Client, ann: User, browser: Browser) -> None:
    ended = sessions.start(ann)
    sessions.revoke(ended, Reason.LOGOUT)
    sessions.start(User.objects.create_user("bob"))
    response: Any = admin.get(page_of(ann))
    shown, _ = response.context["inline_admin_formsets"]
    assert {form.instance for form in shown.formset.forms} == set(Session.objects.filter(user=ann))
    html = response.content.decode()
    assert "Firefox on Linux" in html
    assert "ended: signed out" in html
    assert len(re.findall(r"/admin/latchkey/session/[0-9a-f-]{36}/change/", html)) == 2
    assert not any([shown.has_add_permission, shown.has_change_permission, shown.formset.can_delete])


def test_page_shows_the_ten_newest_sessions_and_a_link_to_all(
    clock: TimeMachineFixture, admin: Client, ann: User
) -> None:
    begun = []
    for _ in range(11):
        begun.append(sessions.start(ann))
        clock.shift(1)  # sessions of one millisecond are in no order
    sessions.start(User.objects.create_user("anna"))
    response: Any = admin.get(page_of(ann))
    shown, _ = response.context["inline_admin_formsets"]
    assert [form.instance for form in shown.formset.forms] == begun[:0:-1]
    for rows, count in (("session", 11), ("securityevent", 11)):
        path = f"/admin/latchkey/{rows}/?user__exact={ann.pk}"
        assert f'href="{path}"' in response.content.decode()
        listed: Any = admin.get(path)
        assert listed.context["cl"].result_count == count


def test_deletion_is_offered_last(admin: Client, ann: User, browser: Browser) -> None:
    for path in (LIST, "/admin/latchkey/session/"):
        page: Any = admin.get(path)
        names = [name for name, _ in page.context["action_form"].fields["action"].choices]
        assert (names[1].startswith("revoke"), names[-1]) == (True, "delete_selected")


def test_page_shows_the_ten_newest_events(admin: Client, ann: User, browser: Browser) -> None:
    for _ in range(6):
        sessions.revoke(sessions.start(ann), Reason.STAFF)
    sessions.start(User.objects.create_user("bob"))
    response: Any = admin.get(page_of(ann))
    _, shown = response.context["inline_admin_formsets"]
    assert [form.instance for form in shown.formset.forms] == list(SecurityEvent.objects.filter(user=ann)[:10])
    html = response.content.decode()
    assert re.search(r"session revoked.*revoked by staff", html, re.DOTALL)
    assert not any([shown.has_add_permission, shown.has_change_permission, shown.formset.can_delete])


def test_page_is_saved_despite_a_simultaneous_event(admin: Client, ann: User) -> None:
    page: Any = admin.get(page_of(ann))
    sessions.start(ann)
    assert admin.post(page_of(ann), form_of(page) | {"username": "anne"}).status_code == 302
    ann.refresh_from_db()
    assert ann.username == "anne"
    assert set(SecurityEvent.objects.values_list("kind", flat=True)) == {"login", "username_changed"}


# Ending sessions


def end_sessions(admin: Client, *users: User, **extra: str) -> tuple[str, str]:
    """End the sessions of the users; return the page that follows, and its messages."""
    chosen = {"action": "revoke_sessions", "_selected_action": [user.pk for user in users], **extra}
    response: Any = admin.post(LIST, chosen, follow=True)
    return response.request["PATH_INFO"], " ".join(str(message) for message in response.context["messages"])


def test_all_sessions_of_the_chosen_users_are_ended(admin: Client, ann: User, browser: Browser) -> None:
    bob, carl = User.objects.create_user("bob"), User.objects.create_user("carl")
    sessions.start(ann)
    sessions.start(bob)
    other = sessions.start(carl)
    assert end_sessions(admin, ann, bob) == (LIST, "3 sessions were revoked.")
    root = Session.objects.get(user__username="root")
    assert set(Session.objects.live()) == {other, root}
    assert browser.refresh().json()["code"] == "token_revoked"
    ended = Session.objects.exclude(pk__in=[other.pk, root.pk])
    assert set(ended.values_list("revoked_reason", "revoked_by", "revoked_from")) == {("staff", "root", "127.0.0.1")}
    assert set(LogEntry.objects.values_list("object_id", "change_message")) == {
        (str(user.pk), "Revoked all sessions.") for user in (ann, bob)
    }


def test_page_of_a_user_has_a_button_that_ends_the_sessions(admin: Client, ann: User, browser: Browser) -> None:
    html = admin.get(page_of(ann)).content.decode()
    form = re.search(rf'<form method="post" action="{LIST}">.*?</form>', html, re.DOTALL)
    assert form
    fields = dict(re.findall(r'name="(\w+)"(?: value="(\w+)")?', form[0]))
    assert fields.pop("csrfmiddlewaretoken")
    assert fields == {"action": "revoke_sessions", "_selected_action": str(ann.pk), "on_page": ""}
    assert end_sessions(admin, ann, on_page="") == (page_of(ann), "1 session was revoked.")
    assert end_sessions(admin, ann, on_page="") == (page_of(ann), "There were no active sessions to revoke.")
    assert LogEntry.objects.count() == 1


def test_button_for_a_missing_user_ends_nothing(admin: Client, ann: User, browser: Browser) -> None:
    nobody = User(pk=0)
    assert end_sessions(admin, nobody, on_page="") == (LIST, "There were no active sessions to revoke.")
    assert Session.objects.live().count() == 2


def test_only_a_superuser_ends_the_sessions_of_a_superuser(ann: User, browser: Browser) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_session"]))
    client = Client()
    client.force_login(helper)
    User.objects.filter(pk=ann.pk).update(is_superuser=True)
    assert end_sessions(client, ann, on_page="")[1] == "There were no active sessions to revoke."
    assert Session.objects.live().filter(user=ann).count() == 1
    User.objects.filter(pk=ann.pk).update(is_superuser=False)
    assert end_sessions(client, ann, on_page="") == (page_of(ann), "1 session was revoked.")


def test_staff_without_permission_to_revoke_ends_nothing(ann: User, browser: Browser) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client = Client()
    client.force_login(helper)
    assert "Revoke all sessions" not in client.get(page_of(ann)).content.decode()
    end_sessions(client, ann)
    assert Session.objects.live().filter(user=ann).count() == 1


def test_page_contains_no_secret(admin: Client, ann: User, browser: Browser) -> None:
    session = Session.objects.get(user=ann)
    html = admin.get(page_of(ann)).content.decode()
    *_, salt, digest = ann.password.split("$")
    assert salt[:6] not in html
    assert digest[:6] not in html
    assert session.secret.hex() not in html
    assert session.auth_hash not in html


def test_staff_with_view_permission_see_no_actions(ann: User, browser: Browser) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "view_session"]))
    client = Client()
    client.force_login(viewer)
    html = client.get(page_of(ann)).content.decode()
    assert "field-has_password" in html
    assert "argon2" not in html
    assert ann.password.split("$")[-1][:6] not in html


def test_admin_deletes_a_user_with_sessions(admin: Client, ann: User, browser: Browser) -> None:
    assert admin.post(page_of(ann, "delete"), {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=ann.pk).exists()
    assert browser.refresh().json()["code"] == "token_revoked"


def test_admin_signs_in_by_address(db: None) -> None:
    User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    response = client.post("/admin/login/", {"username": "ROOT@example.com", "password": PASSWORD, "next": "/admin/"})
    assert response.status_code == 302
    assert client.get(LIST).status_code == 200


# A link to choose a password

NO_ADDRESS = "1 user was skipped: no email address, inactive, too many links already, or permissions you lack."


def send_link(admin: Client, *users: User) -> list[str]:
    """Send the users a link; return the messages of the page that follows."""
    chosen = {"action": "send_password_reset", "_selected_action": [user.pk for user in users]}
    response: Any = admin.post(LIST, chosen, follow=True)
    return [str(message) for message in response.context["messages"]]


def open_link(mail: EmailMessage, new_password: str) -> Any:
    return Browser().post("/auth/password/reset/confirm", {**link_in(mail), "newPassword": new_password})


def test_user_added_by_staff_signs_in_by_the_link(admin: Client, mailoutbox: list[EmailMessage]) -> None:
    """Root adds Ann, who chooses a password that Root never sees."""
    form = {"username": "ann", "email": "ann@example.com", "usable_password": "false"}
    admin.post(f"{LIST}add/", form, follow=True)
    ann = User.objects.get(username="ann")
    Browser().post("/auth/password/reset", {"email": "ann@example.com"})
    outbox.deliver()
    assert mailoutbox == []  # here, only staff can send her one

    assert send_link(admin, ann) == ["1 link was sent."]
    assert not mailoutbox
    outbox.deliver()
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["ann@example.com"], "Choose a password")
    assert open_link(mail, PASSWORD).status_code == 204
    assert Browser().login().status_code == 200
    ann.refresh_from_db()
    assert (ann.email_verified, ann.has_usable_password()) == (True, True)
    entry = LogEntry.objects.order_by("-pk")[0]
    assert (entry.user.get_username(), entry.object_id, entry.change_message) == (
        "root",
        str(ann.pk),
        "Sent a link to reset the password.",
    )


def test_link_changes_nothing_until_opened(
    admin: Client, ann: User, browser: Browser, mailoutbox: list[EmailMessage]
) -> None:
    send_link(admin, ann)
    outbox.deliver()
    assert browser.refresh().status_code == 200
    assert Browser().login().status_code == 200
    event = SecurityEvent.objects.get(kind="password_reset_sent")
    assert (event.user, event.ip_address, event.session) == (ann, "127.0.0.1", None)
    assert open_link(mailoutbox[0], "another horse battery").status_code == 204
    assert browser.refresh().json()["code"] == "token_revoked"


def test_users_without_an_address_are_skipped(admin: Client, ann: User) -> None:
    nowhere = User.objects.create_user("nowhere")
    off = User.objects.create_user("off", "off@example.com", is_active=False)
    assert send_link(admin, ann, nowhere, off) == [
        "1 link was sent.",
        "2 users were skipped: no email address, inactive, too many links already, or permissions you lack.",
    ]
    assert Mail.objects.get().address == "ann@example.com"
    assert LogEntry.objects.get().object_id == str(ann.pk)
    assert SecurityEvent.objects.exclude(kind="login").get().user == ann


def test_links_to_one_user_are_limited(admin: Client, ann: User, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    assert send_link(admin, ann) == ["1 link was sent."]
    assert send_link(admin, ann) == [NO_ADDRESS]
    sent = SecurityEvent.objects.exclude(kind="login")
    assert (Mail.objects.count(), LogEntry.objects.count(), sent.count()) == (1, 1, 1)


def test_only_superusers_send_a_link_to_a_superuser(admin: Client, ann: User) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client, root = Client(), User.objects.get(username="root")
    client.force_login(helper)
    assert send_link(client, root) == [NO_ADDRESS]
    assert not Mail.objects.exists()
    assert send_link(client, ann) == send_link(admin, root) == ["1 link was sent."]


def test_staff_with_view_permission_send_no_link(ann: User) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_user"))
    client = Client()
    client.force_login(viewer)
    send_link(client, ann)
    assert not Mail.objects.exists()
    assert not LogEntry.objects.exists()
    assert not SecurityEvent.objects.filter(user=ann).exists()


# The second factor


@pytest.fixture
def ann_has(browser: Browser) -> Enrolled:
    return set_up(browser)


def take_away(admin: Client, *users: User) -> str:
    """Remove the second factors of the users; return the messages of the page that follows."""
    chosen = {"action": "remove_second_factor", "_selected_action": [user.pk for user in users]}
    response: Any = admin.post(LIST, chosen, follow=True)
    return " ".join(str(message) for message in response.context["messages"])


def test_staff_removes_a_second_factor(admin: Client, ann: User, ann_has: Enrolled) -> None:
    assert Browser().login().json()["code"] == "second_factor_required"
    assert take_away(admin, ann) == "1 second factor was removed."
    assert not AuthenticatorApp.objects.exists()
    assert Browser().login().status_code == 200
    event = SecurityEvent.objects.get(kind="second_factor_removed")
    assert (event.user, event.ip_address, event.session) == (ann, "127.0.0.1", None)
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id, entry.change_message) == (
        "root",
        str(ann.pk),
        "Removed the second factor.",
    )


def test_only_an_enabled_factor_is_removed(admin: Client, ann: User) -> None:
    AuthenticatorApp.objects.create(user=ann, secret="x")
    assert (
        take_away(admin, ann, User.objects.create_user("bob"))
        == "None of these users has a second factor that you may remove."
    )
    assert AuthenticatorApp.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_second_factor_removed_meanwhile_is_logged_once(
    admin: Client, ann: User, ann_has: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_first(*args: Any) -> bool:
        remove(ann)
        return remove(*args)

    remove = second_factor.take_away
    monkeypatch.setattr(second_factor, "take_away", remove_first)
    assert take_away(admin, ann) == "None of these users has a second factor that you may remove."
    assert SecurityEvent.objects.filter(kind="second_factor_removed").count() == 1


def test_staff_cannot_remove_their_own_second_factor(admin: Client) -> None:
    browser, root = Browser(), User.objects.get(username="root")
    browser.login("root")
    set_up(browser)
    assert take_away(admin, root) == "None of these users has a second factor that you may remove."
    assert AuthenticatorApp.objects.count() == 1


def test_staff_cannot_remove_a_superusers_second_factor(ann: User, ann_has: Enrolled) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    client = Client()
    client.force_login(helper)
    User.objects.filter(pk=ann.pk).update(is_superuser=True)
    assert take_away(client, ann) == "None of these users has a second factor that you may remove."
    User.objects.filter(pk=ann.pk).update(is_superuser=False)
    ann.user_permissions.set(Permission.objects.filter(codename="delete_user"))
    assert take_away(client, ann) == "None of these users has a second factor that you may remove."
    ann.user_permissions.clear()
    assert take_away(client, ann) == "1 second factor was removed."


def test_staff_with_view_permission_remove_nothing(ann: User, ann_has: Enrolled) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_user"))
    client = Client()
    client.force_login(viewer)
    take_away(client, ann)
    assert AuthenticatorApp.objects.count() == 1


def test_pages_show_whether_a_factor_exists_and_none_of_its_secrets(
    admin: Client, ann: User, ann_has: Enrolled
) -> None:
    factor = AuthenticatorApp.objects.get()
    pages = [admin.get(path).content.decode() for path in (LIST, page_of(ann), page_of(ann, "delete"))]
    icons = [re.findall(r'field-has_second_factor.*?alt="(\w+)"', page, re.DOTALL) for page in pages]
    assert icons == [["True", "False"], ["True"], []]
    for page in pages:
        assert factor.secret not in page
        assert encryption.decrypt(factor.secret).hex() not in page
        assert not any(digest in page for digest in RecoveryCode.objects.values_list("digest", flat=True))


def test_list_reads_all_second_factors_with_one_statement(admin: Client, ann: User) -> None:
    costs = []
    for number in range(2):
        with CaptureQueriesContext(connection) as captured:
            admin.get(LIST)
        costs.append(len(captured))
        User.objects.create_user(f"user{number}")
    assert costs[0] == costs[1]


# The queries that the lists accept

WHAT_DEPENDS_ON_THE_QUERY = """
    {% load admin_list %}{% search_form cl %}{% date_hierarchy cl %}{% result_list cl %}{% pagination cl %}
    {% for spec in cl.filter_specs %}{% admin_list_filter cl spec %}{% endfor %}
"""


def offered(model_admin: Any) -> set[str]:
    return {item if isinstance(item, str) else item.parameter_name for item in model_admin.list_filter}


@pytest.mark.parametrize("model", site._registry, ids=str)
def test_list_accepts_only_the_lookups_that_it_offers(admin: Client, model: Any) -> None:
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    columns = [field.name for field in model._meta.get_fields()]
    paths = [*columns, *(f"user__{name}" for name in ("password", "username")), "second_factor__secret"]
    for name in paths:
        for lookup in ("", "__startswith", "__regex", "__gt", "__contains", "__in", "__isnull__x"):
            if f"{name}{lookup}" not in offered(site._registry[model]):
                answer = admin.get(path, {f"{name}{lookup}": "("})
                assert answer.status_code == 400, (name, lookup)


@pytest.mark.parametrize("model", site._registry, ids=str)
def test_no_value_of_an_offered_lookup_is_a_server_error(
    admin: Client, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model_admin = f"/admin/{model._meta.app_label}/{model._meta.model_name}/", site._registry[model]
    # Without the frame, which is the same for each and costs the most.
    monkeypatch.setattr(model_admin, "change_list_template", engines["django"].from_string(WHAT_DEPENDS_ON_THE_QUERY))
    names = [f"{model_admin.date_hierarchy}__{part}" for part in ("year", "month", "day")]
    names += ["q", "o", "p", "all", "e", "_popup", "_to_field", "_facets"]
    for name in offered(model_admin):
        names += [name, *(f"{name}__{end}" for end in ("exact", "isnull", "gte", "lt", "id__exact"))]
    # SQLite refuses no value but numbers that are too large.
    values = ["", "x", "0", "-1", "13", "\0", "1-1", "2026-01-01 00:00:00+00:00", "٣", "True"]
    values = ["9" * 30, "9" * 5000] + (values if connection.vendor == "postgresql" else [])
    # The others are refused by name, whatever their value.
    for name in (name for name in names if "__" not in name or admin.get(path, {name: "1"}).status_code != 400):
        for value in values:
            assert admin.get(path, {name: value}).status_code < 500, (name, value)


@pytest.mark.parametrize("value", ["\0", "9" * 30])
def test_value_that_no_column_holds_is_an_invalid_lookup(admin: Client, value: str) -> None:
    assert admin.get(LIST, {"date_joined__year": value}).headers["Location"] == f"{LIST}?e=1"


def test_filters_and_the_calendar_still_work(admin: Client) -> None:
    User.objects.create_user("ann", is_staff=True)
    for query in ("is_staff__exact=1", f"date_joined__year={timezone.now().year}", "groups__isnull=True", "q=ann"):
        answer = admin.get(f"{LIST}?{query}")
        assert (answer.status_code, b">ann<" in answer.content) == (200, True), query
