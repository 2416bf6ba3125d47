"""The functions behind the account's API, and who wins if two things happen at once."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import IntegrityError

from accounts.mail import links, outbox
from accounts.models import Mail, MailKind, User
from accounts.owner import address, password, registration, username, validation
from tests.accounts.mails import link_in
from tests.clients import PASSWORD, Browser
from tests.racing import in_parallel, just_before
from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "another horse battery"
CLIENT = Client("192.0.2.1", "Firefox")
TRANSACTION = "SAVEPOINT"
"""The statement that begins a transaction inside the test's own."""

THREADS = 8


def errors_of(act: Callable[[], Any]) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        act()
    return refused.value.message_dict


def mails() -> list[tuple[str, str]]:
    return list(Mail.objects.order_by("pk").values_list("kind", "address"))


# The address


def test_changed_address_needs_verification_and_the_old_one_gets_a_notice(ann: User) -> None:
    User.objects.update(email_verified=True)
    ann.refresh_from_db()
    address.change_email(ann, "Bob@Example.com", CLIENT)
    assert (ann.email, ann.email_verified) == ("Bob@example.com", False)
    ann.refresh_from_db()
    assert (ann.email, ann.email_key, ann.email_verified) == ("Bob@example.com", "bob@example.com", False)
    assert mails() == [("email_changed", "ann@example.com"), (MailKind.VERIFY_EMAIL, "Bob@example.com")]
    event = SecurityEvent.objects.get()
    assert (event.kind, event.user, event.ip_address) == ("email_changed", ann, "192.0.2.1")


@pytest.mark.parametrize("nothing", ["", None])
def test_address_can_be_removed(ann: User, nothing: str | None) -> None:
    User.objects.update(email_verified=True)
    ann.refresh_from_db()
    address.change_email(ann, nothing)
    ann.refresh_from_db()
    assert (ann.email, ann.email_key) == ("", None)
    assert mails() == [("email_changed", "ann@example.com")]


def test_unverified_former_address_gets_no_notice(ann: User) -> None:
    address.change_email(ann, "bob@example.com")
    assert mails() == [(MailKind.VERIFY_EMAIL, "bob@example.com")]


def test_first_address_sends_no_notice() -> None:
    ann = User.objects.create_user("ann", password=PASSWORD)
    address.change_email(ann, "ann@example.com")
    assert mails() == [(MailKind.VERIFY_EMAIL, "ann@example.com")]


def test_case_of_ones_own_address_can_change(ann: User) -> None:
    address.change_email(ann, "Ann@example.com")
    assert User.objects.get().email == "Ann@example.com"


@pytest.mark.parametrize(
    ("email", "message"),
    [("BOB@example.com", "This address is taken."), ("nonsense", "Enter a valid email address.")],
)
def test_bad_or_taken_address_changes_nothing(ann: User, email: str, message: str) -> None:
    User.objects.create_user("bob", "bob@example.com")
    assert errors_of(lambda: address.change_email(ann, email)) == {"email": [message]}
    assert ann.email == User.objects.get(pk=ann.pk).email == "ann@example.com"
    assert mails() == []


def test_address_taken_at_the_same_moment_changes_nothing(ann: User) -> None:
    def take() -> None:
        User.objects.create_user("bob", "bob@example.com")

    with just_before(TRANSACTION, take):
        errors = errors_of(lambda: address.change_email(ann, "bob@example.com"))
    assert errors == {"email": ["This address is taken."]}
    assert ann.email == User.objects.get(pk=ann.pk).email == "ann@example.com"
    assert mails() == []


def test_address_change_fails_if_the_password_changed_meanwhile(ann: User) -> None:
    def change() -> None:
        User.objects.update(password=make_password(NEW_PASSWORD))

    with just_before(TRANSACTION, change):
        errors = errors_of(lambda: address.change_email(ann, "thief@example.com"))
    assert errors == {"current_password": ["That password is wrong."]}
    assert User.objects.get().email == "ann@example.com"
    assert mails() == []


# The name


def test_username_changes_by_the_rules_of_registration(ann: User) -> None:
    username.change_username(ann, "Bo\N{FULLWIDTH LATIN SMALL LETTER B}")
    assert ann.username == "Bob"
    ann.refresh_from_db()
    assert (ann.username, ann.username_key) == ("Bob", "bob")


def test_case_of_ones_own_username_can_change(ann: User) -> None:
    username.change_username(ann, "ANN")
    assert User.objects.get().username == "ANN"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("BOB", "This username is taken."),
        ("a@b", "Enter a valid username: letters, digits and . + - _ only."),
        ("", "This field cannot be blank."),
    ],
)
def test_bad_or_taken_username_changes_nothing(ann: User, typed: str, message: str) -> None:
    User.objects.create_user("bob")
    assert errors_of(lambda: username.change_username(ann, typed)) == {"username": [message]}
    assert ann.username == User.objects.get(pk=ann.pk).username == "ann"


def test_username_taken_at_the_same_moment_changes_nothing(ann: User) -> None:
    with just_before(TRANSACTION, lambda: User.objects.create_user("bob")):
        errors = errors_of(lambda: username.change_username(ann, "bob"))
    assert errors == {"username": ["This username is taken."]}
    assert ann.username == User.objects.get(pk=ann.pk).username == "ann"


def test_other_integrity_errors_are_not_hidden() -> None:
    user = User(username="a@b")
    with pytest.raises(IntegrityError), validation.claiming(user):
        user.save()


# Registration


def test_name_taken_at_the_same_moment_is_reported_as_taken() -> None:
    with just_before(TRANSACTION, lambda: User.objects.create_user("ANN")):
        errors = errors_of(lambda: registration.register("ann", PASSWORD))
    assert errors == {"username": ["This username is taken."]}
    assert User.objects.get().username == "ANN"
    assert not Session.objects.exists()
    assert not SecurityEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("email", ["ann@example.com", ""])
def test_one_of_many_registrations_gets_the_name(email: str) -> None:
    body = {"username": "ann", "email": email, "password": PASSWORD}
    answers = in_parallel(*[lambda: Browser().post("/auth/register", body)] * THREADS)
    taken = {"username": ["This username is taken."]} | ({"email": ["This address is taken."]} if email else {})
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * (THREADS - 1)
    refusals = [answer.json() for answer in answers if answer.status_code == 400]
    # The winner may commit between the checks of the two fields.
    assert all(refusal and refusal.items() <= taken.items() for refusal in refusals)
    assert (User.objects.count(), Session.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_one_of_many_registrations_gets_the_address() -> None:
    def register(number: int) -> Any:
        body = {"username": f"ann{number}", "email": "ann@example.com", "password": PASSWORD}
        return Browser().post("/auth/register", body)

    answers = in_parallel(*[lambda number=number: register(number) for number in range(THREADS)])
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * (THREADS - 1)
    assert [answer.json() for answer in answers if answer.status_code == 400] == [
        {"email": ["This address is taken."]}
    ] * (THREADS - 1)
    assert User.objects.count() == 1


# The password


def test_password_change_fails_if_the_password_changed_meanwhile(ann: User) -> None:
    session = sessions.start(ann)
    changed = make_password(NEW_PASSWORD)
    with just_before(TRANSACTION, lambda: User.objects.update(password=changed)):
        errors = errors_of(lambda: password.change_password(session, PASSWORD, "yet another horse"))
    assert errors == {"current_password": ["That password is wrong."]}
    assert User.objects.get().password == changed


@pytest.mark.django_db(transaction=True)
def test_one_of_many_password_changes_wins(ann: User) -> None:
    browsers = [Browser() for _ in range(THREADS)]
    for browser in browsers:
        browser.login()

    def change(number: int) -> Any:
        body = {"currentPassword": PASSWORD, "newPassword": f"{NEW_PASSWORD} {number}"}
        return browsers[number].post("/auth/password/change", body, browsers[number].access)

    answers = in_parallel(*[lambda number=number: change(number) for number in range(THREADS)])
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 400, 401}
    winner = statuses.index(200)
    assert User.objects.get().check_password(f"{NEW_PASSWORD} {winner}")
    assert [browser.refresh().status_code for browser in browsers] == [
        200 if number == winner else 401 for number in range(THREADS)
    ]


@pytest.mark.django_db(transaction=True)
def test_reset_link_works_once_under_parallel_requests(ann: User, mailoutbox: list[EmailMessage]) -> None:
    password.request_reset("ann@example.com")
    outbox.deliver()
    link = link_in(mailoutbox[0])

    def reset(number: int) -> Any:
        return Browser().post("/auth/password/reset/confirm", {**link, "newPassword": f"{NEW_PASSWORD} {number}"})

    answers = in_parallel(*[lambda number=number: reset(number) for number in range(THREADS)])
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [204] + [400] * (THREADS - 1)
    assert User.objects.get().check_password(f"{NEW_PASSWORD} {statuses.index(204)}")
    assert SecurityEvent.objects.filter(kind="password_reset").count() == 1


@pytest.mark.parametrize("change", [{"password": "!"}, {"email": "bob@example.com"}, {"is_active": False}])
def test_simultaneous_reset_and_change_leave_the_change(ann: User, change: dict[str, Any]) -> None:
    session = sessions.start(ann)
    uid, token = link_of(links.reset_password, ann)
    with just_before(TRANSACTION, lambda: User.objects.update(**change)):
        errors = errors_of(lambda: password.reset_password(uid, token, NEW_PASSWORD))
    assert errors.keys() == {"token"}
    assert not User.objects.get().check_password(NEW_PASSWORD)
    session.refresh_from_db()
    assert session.revoked_at is None


def test_simultaneous_verification_and_address_change_leave_the_change(ann: User) -> None:
    uid, token = link_of(links.verify_email, ann)
    with just_before(TRANSACTION, lambda: address.change_email(ann, "bob@example.com")):
        errors = errors_of(lambda: address.verify_email(uid, token))
    assert errors.keys() == {"token"}
    assert User.objects.values("email", "email_verified").get() == {"email": "bob@example.com", "email_verified": False}


def test_sessions_ended_by_a_password_change_say_so(ann: User) -> None:
    used, other = sessions.start(ann), sessions.start(ann)
    successor = password.change_password(used, PASSWORD, NEW_PASSWORD, CLIENT)
    assert set(Session.objects.values_list("pk", "revoked_reason")) == {
        (used.pk, Reason.PASSWORD),
        (other.pk, Reason.PASSWORD),
        (successor.pk, ""),
    }
    event = SecurityEvent.objects.get(kind="password_changed")
    assert (event.session, event.ip_address, event.user_agent) == (used.pk, "192.0.2.1", "Firefox")


def link_of(link: links.Link, user: User) -> tuple[str, str]:
    sent = dict(part.split("=") for part in link.url(user).partition("#")[2].split("&"))
    return sent["uid"], sent["token"]
