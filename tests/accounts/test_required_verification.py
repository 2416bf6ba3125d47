"""EMAIL_VERIFICATION=required: new users get in by the mail, and nobody learns who has an account."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.hashers import Argon2idPasswordHasher
from accounts.mail import outbox
from accounts.models import Mail, MailKind, User
from accounts.owner import registration
from tests.accounts.mails import HINT, link_in
from tests.api.visitors import Visitor
from tests.clients import PASSWORD, App, Browser
from tests.racing import in_parallel, just_before
from tokens.models import SecurityEvent, Session

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another horse battery"
AWAITING = {
    "detail": "Check your email and open the link to confirm your address; then you can sign in. If the email does "
    "not arrive or the link has expired, reset your password, which also confirms your address."
}
TAKEN = {"username": ["This username is taken."]}


@pytest.fixture(autouse=True)
def required(settings: Settings) -> None:
    settings.EMAIL_VERIFICATION_REQUIRED = True
    settings.TOKENS_LOGIN_HINT = HINT


def register(username: str = "bob", email: Any = "bob@example.com", password: str = PASSWORD, **extra: Any) -> Any:
    body = {"username": username, "email": email, "password": password}
    return Browser().post("/auth/register", body, **extra)


def mailed(mailoutbox: list[EmailMessage]) -> EmailMessage:
    """Send the one queued mail, and return it."""
    mailoutbox.clear()
    outbox.deliver()
    (mail,) = mailoutbox
    return mail


def assert_nobody_gets_in(username: str, password: str = PASSWORD) -> None:
    """Try every door, with the right password."""
    count = Session.objects.count()
    browser, app, visitor = Browser().login(username, password), App().login(username, password), Visitor(username)
    assert (browser.status_code, browser.json()["code"]) == (401, "invalid_credentials")
    assert browser.json()["detail"] == f"The username or password is wrong. {HINT}"
    assert (app.status_code, app.json()["code"]) == (401, "no_active_account")
    assert app.json()["detail"].endswith(HINT)
    page = visitor.sign_in(password)
    assert (page.status_code, visitor.cookie) == (200, "")
    assert HINT in page.content.decode()
    assert Session.objects.count() == count


# The story


def test_two_people_one_address(mailoutbox: list[EmailMessage]) -> None:
    """Ann registers and gets in by the mail. Then Bob tries with her address: she gets a mail, and he learns
    nothing."""
    answer = register("ann", "ann@example.com")
    assert (answer.status_code, answer.json()) == (202, AWAITING)
    assert_nobody_gets_in("ann")
    assert_nobody_gets_in("ann@example.com")

    mail = mailed(mailoutbox)
    assert (mail.to, mail.subject) == (["ann@example.com"], "Confirm your email address")
    assert Browser().post("/auth/email/verify", link_in(mail)).status_code == 204
    ann = Browser()
    assert ann.login("ann@example.com").status_code == 200

    answer = register("bob", "Ann@Example.com")
    assert (answer.status_code, answer.json()) == (202, AWAITING)
    mail = mailed(mailoutbox)
    assert (mail.to, mail.subject) == (["ann@example.com"], "You already have an account")
    assert f"{django_settings.PUBLIC_URL}/#forgot" in str(mail.body)
    assert "token" not in str(mail.body)
    assert_nobody_gets_in("bob")
    assert register("bob", "bob@example.com").json() == TAKEN

    assert ann.refresh().status_code == 200
    assert User.objects.get(username="ann").email_verified
    kinds = (
        SecurityEvent.objects.filter(user__username="ann").order_by("created_at", "id").values_list("kind", flat=True)
    )
    assert list(kinds)[:1] == ["registered"]
    assert "email_verified" in kinds


# The answer, and the work behind it


@contextmanager
def counted_hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    encoded: list[str] = []
    encode = Argon2idPasswordHasher.encode

    def counting(self: Argon2idPasswordHasher, password: str, salt: str) -> str:
        encoded.append(password)
        return encode(self, password, salt)

    with monkeypatch.context() as patch:
        patch.setattr(Argon2idPasswordHasher, "encode", counting)
        yield encoded


def statements(sent: CaptureQueriesContext) -> list[str]:
    """Return the statements without their values."""
    shapes = [re.sub(r"'[^']*'|s\d+_x\d+|\d[\d.e+-]*", "?", query["sql"]) for query in sent.captured_queries]
    return [shape.split(" VALUES")[0].strip() for shape in shapes]


@pytest.mark.parametrize("owner", [{}, {"is_active": False}, {"awaiting_verification": True}], ids=str)
def test_new_and_known_address_get_the_same_answer_with_the_same_work(
    ann: User, monkeypatch: pytest.MonkeyPatch, owner: dict[str, Any]
) -> None:
    User.objects.update(**owner)
    answers, work = [], []
    for username, email in (("new", "new@example.com"), ("old", "ann@example.com")):
        with counted_hashing(monkeypatch) as hashed, CaptureQueriesContext(connection) as sent:
            response = register(username, email)
        assert not response.cookies
        answers.append((response.status_code, response.content, dict(response.headers)))
        work.append((hashed, statements(sent)))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (202, register_answer())
    assert answers[0][2]["Cache-Control"] == "no-store"
    assert work[0] == work[1]
    assert work[0][0] == [PASSWORD]
    inserted = [sql.split(" (")[0] for sql in work[0][1] if sql.startswith("INSERT")]
    assert [re.sub('"|INSERT INTO ', "", sql) for sql in inserted] == [
        "latchkey_bucket",
        "accounts_user",
        "latchkey_securityevent",
        "accounts_mail",
    ]
    assert not Session.objects.exists()


def register_answer() -> bytes:
    return register("third", "third@example.com").content  # type: ignore[no-any-return]


def test_account_with_a_known_address_is_created_without_it(ann: User) -> None:
    register("bob", "ANN@example.com")
    bob = User.objects.get(username="bob")
    assert (bob.email, bob.email_key, bob.email_verified, bob.awaiting_verification) == ("", None, False, True)
    assert Mail.objects.values("kind", "address").get() == {
        "kind": MailKind.ALREADY_REGISTERED,
        "address": "ANN@example.com",
    }
    ann.refresh_from_db()
    assert (ann.email, ann.awaiting_verification) == ("ann@example.com", False)


@pytest.mark.parametrize("owner", [{"is_active": False}, {"email": "new@example.com", "email_key": "new@example.com"}])
def test_user_who_left_the_address_gets_no_mail(
    ann: User, mailoutbox: list[EmailMessage], owner: dict[str, Any]
) -> None:
    register("bob", "ann@example.com")
    User.objects.filter(pk=ann.pk).update(**owner)
    outbox.deliver()
    assert mailoutbox == []
    assert not Mail.objects.exists()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"email": ""}, {"email": ["This field is required."]}),
        ({"email": None}, {"email": ["This field is required."]}),
        ({"email": "nonsense"}, {"email": ["Enter a valid email address."]}),
        ({"username": "ANN"}, TAKEN),
        ({"username": "ANN", "password": "password"}, TAKEN | {"password": ["This password is too common."]}),
        # The same for a known address: nothing here shows the difference.
        ({"password": "ann@example.com"}, {"password": ["The password is too similar to the email address."]}),
        (
            {"email": "new@example.com", "password": "new@example.com"},
            {
                "password": ["The password is too similar to the email address."],
            },
        ),
        (
            {"email": f"{'x' * 60}@{'y' * 63}.{'y' * 63}.{'y' * 63}.example"},
            {
                "email": ["Ensure this value has at most 254 characters (it has 260)."],
            },
        ),
    ],
)
def test_invalid_registration_is_a_field_error(ann: User, body: dict[str, Any], errors: dict[str, list[str]]) -> None:
    response = register(**{"username": "bob", "email": "ann@example.com", **body})
    assert (response.status_code, response.json()) == (400, errors)
    assert User.objects.get() == ann
    assert not any(rows.objects.exists() for rows in (Session, SecurityEvent, Mail))


def test_address_is_required_if_the_field_is_missing() -> None:
    response = Browser().post("/auth/register", {"username": "bob", "password": PASSWORD})
    assert (response.status_code, response.json()) == (400, {"email": ["This field is required."]})
    assert not User.objects.exists()


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("email", ["ann@example.com", "new@example.com"])
def test_mails_to_one_address_are_limited(ann: User, settings: Settings, email: str) -> None:
    settings.TOKENS_LIMITS = {"mail": (2, 600.0)}
    assert [register(f"bob{number}", email).status_code for number in range(3)] == [202, 202, 429]
    refused = register("bob4", email.upper())
    assert (refused.json()["code"], refused["Retry-After"]) == ("throttled", "600")
    assert (User.objects.exclude(pk=ann.pk).count(), Mail.objects.count()) == (2, 2)
    # Requests that were refused for another reason don't count.
    assert register("ann", "other@example.com").json() == TAKEN


def test_closed_registration_refuses_everyone(settings: Settings) -> None:
    settings.REGISTRATION_OPEN = False
    assert register().status_code == 403
    assert not User.objects.exists()


# At once


def test_address_taken_at_the_same_moment_counts_as_known() -> None:
    with just_before("SAVEPOINT", lambda: User.objects.create_user("ann", "bob@example.com")):
        assert register("bob", "bob@example.com").status_code == 202
    assert User.objects.get(username="bob").email == ""
    assert Mail.objects.get().kind == MailKind.ALREADY_REGISTERED
    assert SecurityEvent.objects.count() == 1


def test_name_taken_at_the_same_moment_is_reported_as_taken() -> None:
    with just_before("SAVEPOINT", lambda: User.objects.create_user("BOB")):
        response = register("bob", "bob@example.com")
    assert (response.status_code, response.json()) == (400, TAKEN)
    assert User.objects.get().username == "BOB"
    assert not any(rows.objects.exists() for rows in (SecurityEvent, Mail))


@pytest.mark.django_db(transaction=True)
def test_one_of_many_registrations_gets_the_address(mailoutbox: list[EmailMessage], settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"mail": (100, 600.0)}
    acts = [lambda number=number: register(f"bob{number}") for number in range(8)]
    assert [answer.status_code for answer in in_parallel(*acts)] == [202] * 8
    assert (User.objects.filter(email="bob@example.com").count(), User.objects.filter(email="").count()) == (1, 7)
    outbox.deliver()
    subjects = sorted(mail.subject for mail in mailoutbox)
    assert subjects == ["Confirm your email address", *["You already have an account"] * 7]


@pytest.mark.django_db(transaction=True)
def test_one_of_many_registrations_gets_the_name(settings: Settings) -> None:
    acts = [lambda number=number: register("bob", f"bob{number}@example.com") for number in range(8)]
    answers = in_parallel(*acts)
    assert sorted(answer.status_code for answer in answers) == [202] + [400] * 7
    assert all(answer.json() == TAKEN for answer in answers if answer.status_code == 400)
    assert (User.objects.count(), Mail.objects.count()) == (1, 1)


# Getting in


def test_right_and_wrong_password_take_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    answers, work = [], []
    Browser().login("bob", "wrong")  # the first failure of the hour makes the row
    for password in (PASSWORD, "wrong"):
        with CaptureQueriesContext(connection) as sent:
            response = Browser().login("bob", password)
        answers.append((response.status_code, response.content, dict(response.headers)))
        work.append(statements(sent))
    assert answers[0] == answers[1]
    assert work[0] == work[1]
    assert SecurityEvent.objects.get(kind="login_failed").count == 3


@pytest.mark.parametrize(("username", "password"), [("nobody", PASSWORD), ("ann", "wrong"), ("off", PASSWORD)])
def test_refused_users_get_the_same_answer(ann: User, username: str, password: str) -> None:
    User.objects.create_user("off", password=PASSWORD, is_active=False)
    assert_nobody_gets_in(username, password)


@pytest.mark.parametrize(("username", "password"), [("root", "wrong"), ("root", PASSWORD), ("ann", PASSWORD)])
def test_admin_refuses_with_the_same_message(ann: User, username: str, password: str) -> None:
    User.objects.create_superuser("root", "root@example.com", PASSWORD, awaiting_verification=True)
    client = Client()
    response: Any = client.post("/admin/login/", {"username": username, "password": password, "next": "/admin/"})
    (error,) = response.context["form"].non_field_errors()
    assert error.startswith("Please enter the correct username and password for a staff account.")
    assert error.endswith(HINT)
    assert client.get("/admin/").status_code == 302


def test_admin_session_ends_when_verification_is_required_again() -> None:
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    client.force_login(root)
    assert client.get("/admin/").status_code == 200
    User.objects.update(awaiting_verification=True)
    assert client.get("/admin/").status_code == 302


def test_password_reset_also_verifies(mailoutbox: list[EmailMessage], time_machine: TimeMachineFixture) -> None:
    register()
    link = link_in(mailed(mailoutbox))
    time_machine.move_to(timezone.now() + timedelta(seconds=django_settings.PASSWORD_RESET_TIMEOUT + 1))
    assert Browser().post("/auth/email/verify", link).status_code == 400
    assert_nobody_gets_in("bob")

    assert Browser().post("/auth/password/reset", {"email": "bob@example.com"}).status_code == 202
    body = {**link_in(mailed(mailoutbox)), "newPassword": NEW_PASSWORD}
    assert Browser().post("/auth/password/reset/confirm", body).status_code == 204
    bob = User.objects.get()
    assert (bob.email_verified, bob.awaiting_verification) == (True, False)
    assert Browser().login("bob").status_code == 401
    assert Browser().login("bob", NEW_PASSWORD).status_code == 200


def test_account_registered_with_a_known_address_never_signs_in(ann: User, mailoutbox: list[EmailMessage]) -> None:
    register("bob", "ann@example.com")
    mailed(mailoutbox)
    assert Browser().post("/auth/password/reset", {"email": "ann@example.com"}).status_code == 202
    body = {**link_in(mailed(mailoutbox)), "newPassword": NEW_PASSWORD}
    assert Browser().post("/auth/password/reset/confirm", body).status_code == 204
    assert Browser().login("ann", NEW_PASSWORD).status_code == 200
    assert_nobody_gets_in("bob")
    assert_nobody_gets_in("bob", NEW_PASSWORD)


def test_existing_users_still_sign_in(ann: User) -> None:
    assert not ann.email_verified
    assert Browser().login().status_code == 200


def test_unverified_user_still_waits_after_the_setting_is_relaxed(settings: Settings) -> None:
    register()
    settings.EMAIL_VERIFICATION_REQUIRED = False
    settings.TOKENS_LOGIN_HINT = ""
    response = Browser().login("bob")
    assert (response.status_code, response.json()["detail"]) == (401, "The username or password is wrong.")
    assert register("ann", "ann@example.com").status_code == 201


@pytest.mark.parametrize("vouches", [True, False])
def test_staff_can_verify_an_address(vouches: bool) -> None:
    register()
    root, client, bob = User.objects.create_superuser("root"), Client(), User.objects.get(username="bob")
    client.force_login(root)
    page: Any = client.get(f"/admin/accounts/user/{bob.pk}/change/")
    assert "awaiting_verification" not in page.context["adminform"].form.fields
    assert "sign in until the address is verified" in page.content.decode()
    form = {"username": "bob", "email": "bob@example.com", "is_active": "on", "awaiting_verification": ""}
    for inline in page.context["inline_admin_formsets"]:
        form |= {f"{inline.formset.prefix}-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS")}
    form |= {"email_verified": "on"} if vouches else {}
    assert client.post(f"/admin/accounts/user/{bob.pk}/change/", form).status_code == 302
    bob.refresh_from_db()
    assert (bob.email_verified, bob.awaiting_verification) == (vouches, not vouches)
    assert Browser().login("bob").status_code == (200 if vouches else 401)


# The pages


def register_form(page: str) -> str:
    return page.partition('id="view-register"')[2].partition("</template>")[0]


def test_pages_mark_the_address_as_required(settings: Settings) -> None:
    client = Client()
    account, verification = (client.get(path).content.decode() for path in ("/", "/verify-email"))
    assert "(optional)" not in register_form(account)
    assert "You can sign in now." in verification
    assert "Get a new link by resetting your password" in verification
    settings.EMAIL_VERIFICATION_REQUIRED = False
    account, verification = (client.get(path).content.decode() for path in ("/", "/verify-email"))
    assert "(optional)" in register_form(account)
    assert "You can sign in now." not in verification
    assert "You can ask for a new one in your account." in verification


# The command


def flush(*arguments: str) -> str:
    output = StringIO()
    call_command("flushunverified", *arguments, stdout=output)
    return output.getvalue().strip()


def test_abandoned_accounts_are_deleted(ann: User, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    register()
    register("carl", "bob@example.com")
    time_machine.shift(timedelta(days=7))
    register("dora", "dora@example.com")
    assert flush() == "Deleted 0 accounts whose address was never verified."
    time_machine.shift(timedelta(seconds=1))
    assert flush("--dry-run") == "Would delete 2 accounts whose address was never verified."
    assert User.objects.count() == 4
    assert flush() == "Deleted 2 accounts whose address was never verified."
    assert set(User.objects.values_list("username", flat=True)) == {"ann", "dora"}
    assert register("bob", "bob@example.com").status_code == 202


def test_number_of_days_is_respected(time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    register()
    time_machine.shift(timedelta(days=1, seconds=1))
    assert flush("--days", "2") == "Deleted 0 accounts whose address was never verified."
    assert flush("--days", "1") == "Deleted 1 account whose address was never verified."
    assert not User.objects.exists()


def test_account_verified_at_that_moment_stays(time_machine: TimeMachineFixture) -> None:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    register()
    time_machine.shift(timedelta(days=8))
    with just_before("SAVEPOINT", lambda: User.objects.update(awaiting_verification=False, email_verified=True)):
        assert flush() == "Deleted 0 accounts whose address was never verified."
    assert User.objects.get().email_verified


@pytest.mark.parametrize("days", ["0", "-1", "36501"])
def test_number_of_days_is_checked(days: str) -> None:
    with pytest.raises(CommandError, match="--days must be from 1 to 36500"):
        flush("--days", days)


def test_other_integrity_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise IntegrityError

    monkeypatch.setattr(User, "save", fail)
    with pytest.raises(IntegrityError):
        registration.register_unverified("bob", PASSWORD, "bob@example.com")
    assert not User.objects.exists()


def test_protected_abandoned_account_stays(time_machine: TimeMachineFixture) -> None:
    def protect(instance: User, **kwargs: Any) -> None:
        raise ProtectedError("an order", {instance})

    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    register()
    time_machine.shift(timedelta(days=8))
    pre_delete.connect(protect, sender=User)
    try:
        assert flush() == "Deleted 0 accounts whose address was never verified."
    finally:
        pre_delete.disconnect(protect, sender=User)
    assert User.objects.count() == 1
