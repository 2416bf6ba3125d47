import asyncio
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections, transaction
from django.utils import timezone
from time_machine import TimeMachineFixture

from accounts.models import Mail, MailKind, User
from tests.clients import PASSWORD, Browser
from tests.racing import just_before
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db

OLD_HASH = PBKDF2PasswordHasher().encode(PASSWORD, "salt", iterations=1)
"""A kind of hash that is upgraded when it is used."""


@pytest.mark.django_db
def test_new_database_has_no_account() -> None:
    assert not User.objects.exists()


# Names and addresses


@pytest.mark.parametrize("name", ["ANN", "\N{FULLWIDTH LATIN SMALL LETTER A}nn"])
def test_name_is_unique_regardless_of_case_and_width(ann: User, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        User(username=name, password="x").full_clean()
    assert refused.value.message_dict == {"username": ["This username is taken."]}
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user(name)
    assert User.objects.get() == ann


def test_address_is_unique_regardless_of_case(ann: User) -> None:
    with pytest.raises(ValidationError) as refused:
        User(username="bob", email="ANN@Example.COM", password="x").full_clean()
    assert refused.value.message_dict == {"email": ["This address is taken."]}
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("bob", "ANN@example.com")
    assert User.objects.get() == ann


def test_names_with_different_accents_are_different() -> None:
    User.objects.create_user("É")
    User.objects.create_user("e")
    assert User.objects.count() == 2


def test_any_number_of_users_can_have_no_address() -> None:
    User.objects.create_user("ann")
    User.objects.create_user("bob", "")
    assert set(User.objects.values_list("email", "email_key")) == {("", None)}


def test_names_are_stored_normalised() -> None:
    user = User.objects.create_user(
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}nne\N{COMBINING ACUTE ACCENT}",
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}nn@EXAMPLE.com",
    )
    user.refresh_from_db()
    assert (user.username, user.email) == ("Anné", "Ann@example.com")
    assert (user.username_key, user.email_key) == ("anné", "ann@example.com")


def test_users_with_similar_names_are_not_confused(ann: User) -> None:
    ann.full_clean()


def test_excluded_field_is_not_compared(ann: User) -> None:
    User(username="ann", email="ann@example.com").validate_unique(exclude={"username", "email"})


@pytest.mark.parametrize("fields", [["username"], ["email"], ("username", "email"), {"is_active", "email"}])
def test_keys_follow_when_only_some_fields_are_saved(ann: User, fields: Any) -> None:
    ann.username, ann.email = "Bob", "Bob@example.com"
    ann.save(update_fields=fields)
    ann.refresh_from_db()
    assert ann.username_key == ("bob" if "username" in fields else "ann")
    assert ann.email_key == ("bob@example.com" if "email" in fields else "ann@example.com")


def test_address_cannot_be_saved_as_a_username() -> None:
    with pytest.raises(ValidationError) as refused:
        User(username="a@b", password="x").full_clean()
    assert refused.value.message_dict.keys() == {"username"}
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user("a\N{FULLWIDTH COMMERCIAL AT}b")
    assert not User.objects.exists()


def test_name_that_is_too_long_once_normalised_is_refused() -> None:
    with pytest.raises(ValidationError) as refused:
        User(username="ﬃ" * 51, password="x").full_clean()
    assert refused.value.message_dict["username"] == ["Ensure this value has at most 150 characters (it has 153)."]


def test_user_without_keys_is_not_saved() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.bulk_create([User(username="ann")])


@pytest.mark.parametrize("identifier", ["ann", "ANN", "Ann@Example.com", "ann\N{FULLWIDTH COMMERCIAL AT}example.com"])
def test_username_and_address_both_find_the_user(ann: User, identifier: str) -> None:
    assert User.objects.get_by_natural_key(identifier) == ann
    assert authenticate(username=identifier, password=PASSWORD) == ann


@pytest.mark.parametrize("identifier", ["", None, "@", "bob", "bob@example.com", "example.com"])
def test_nothing_else_finds_anybody(ann: User, identifier: str | None) -> None:
    User.objects.create_user("nomail")
    with pytest.raises(User.DoesNotExist):
        User.objects.get_by_natural_key(identifier)


@pytest.mark.django_db(transaction=True)
def test_users_also_sign_in_asynchronously(ann: User) -> None:
    async def sign_in(password: str) -> object:
        user = await aauthenticate(username="ANN@example.com", password=password)
        await sync_to_async(connections.close_all)()
        return user

    assert asyncio.run(sign_in(PASSWORD)) == ann
    assert asyncio.run(sign_in("wrong")) is None


def test_createsuperuser_makes_an_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", username="root", email="Root@example.com", interactive=False, stdout=StringIO())
    root = User.objects.get_by_natural_key("root@example.com")
    assert (root.is_staff, root.is_superuser, root.check_password(PASSWORD)) == (True, True, True)


@pytest.mark.parametrize(
    ("username", "email", "sentence"),
    [
        ("ANN", "root@example.com", "taken"),
        ("root", "ANN@example.com", "This address is taken."),
        ("ro@ot", "root@example.com", "Enter a valid username"),
    ],
)
def test_createsuperuser_refuses_with_a_clear_message(ann: User, username: str, email: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("createsuperuser", username=username, email=email, interactive=False)
    assert User.objects.get() == ann


def test_changepassword_ends_the_sessions(ann: User, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda **_: "another horse battery")
    call_command("changepassword", "ann", stdout=StringIO())
    assert browser.post("/auth/logout-all", access=browser.access).json()["code"] == "token_revoked"


# Hashes that are upgraded


def test_passwords_do_not_expire(ann: User, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(timezone.now() + timedelta(days=20 * 365))
    assert Browser().login().status_code == 200


@pytest.mark.real_hashing
def test_login_upgrades_the_hash_without_ending_sessions(ann: User, browser: Browser) -> None:
    session = Session.objects.get()
    User.objects.filter(pk=ann.pk).update(password=OLD_HASH)
    session.auth_hash = User.objects.get().get_session_auth_hash()
    session.save()
    assert Browser().login().status_code == 200
    assert User.objects.get().password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert browser.refresh().status_code == 200


def test_wrong_password_upgrades_nothing(ann: User) -> None:
    ann.password = OLD_HASH
    ann.save()
    assert not ann.check_password("wrong")
    ann.refresh_from_db()
    assert ann.password == OLD_HASH


def test_hash_upgrade_does_not_undo_a_simultaneous_change(ann: User) -> None:
    ann.password = OLD_HASH
    ann.save()
    changed = make_password("another horse battery")
    with just_before('UPDATE "accounts_user"', lambda: User.objects.filter(pk=ann.pk).update(password=changed)):
        assert not ann.check_password(PASSWORD)
    ann.refresh_from_db()
    assert ann.password == changed


def test_second_hash_upgrade_finds_the_first(ann: User) -> None:
    ann.password = OLD_HASH
    ann.save()
    other = User.objects.get()
    with just_before('UPDATE "accounts_user"', lambda: other.check_password(PASSWORD)):
        assert ann.check_password(PASSWORD)
    ann.refresh_from_db()
    assert ann.password == other.password


def test_password_of_a_just_deleted_user_is_wrong(ann: User) -> None:
    ann.password = OLD_HASH
    ann.save()
    with just_before('UPDATE "accounts_user"', lambda: User.objects.all().delete()):
        assert not ann.check_password(PASSWORD)


def test_deactivation_ends_the_sessions_for_good(ann: User, browser: Browser) -> None:
    ann.is_active = False
    ann.save()
    ann.is_active = True
    ann.save()
    assert Session.objects.get().revoked_reason == Reason.DEACTIVATED
    assert browser.refresh().json()["code"] == "token_revoked"


def test_rows_have_readable_names(ann: User) -> None:
    assert str(ann) == "ann"
    assert str(Mail(pk=7, kind=MailKind.VERIFY_EMAIL)) == "verify_email 7"


def test_undeliverable_domain_is_a_field_error(db: None) -> None:
    user = User(username="ann", email="a@" + "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 60 + ".example")
    with pytest.raises(ValidationError) as refused:
        user.full_clean(exclude={"password"})
    assert refused.value.message_dict.keys() == {"email"}


def test_asynchronous_code_finds_users_and_checks_passwords_the_same_way(ann: User) -> None:
    found = async_to_sync(User.objects.aget_by_natural_key)("ANN@example.com")
    assert found == ann
    assert async_to_sync(found.acheck_password)(PASSWORD)
