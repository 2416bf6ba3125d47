"""Secrets at rest: what the database holds, before and after SECRET_KEY is rotated."""

import logging
from base64 import b32encode
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.factors import encryption
from accounts.factors.encryption import Undecipherable
from accounts.models import AuthenticatorApp, RecoveryCode, User
from tests.accounts.devices import Enrolled, challenge, set_up
from tests.clients import Browser
from tests.racing import just_before

pytestmark = pytest.mark.django_db

SECRET = b"12345678901234567890"
NEW_KEY = "the next key of the tests, which guards nothing either"


@pytest.fixture
def ann_has(browser: Browser, time_machine: TimeMachineFixture) -> Enrolled:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    browser.login()
    enrolled = set_up(browser)
    time_machine.shift(60)
    return enrolled


def rotate(settings: Settings, *, keep: bool = True) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS] if keep else []
    settings.SECRET_KEY = f"{NEW_KEY} {len(settings.SECRET_KEY_FALLBACKS)}"


def keep(secret: str, name: str) -> AuthenticatorApp:
    return AuthenticatorApp.objects.create(user=User.objects.create_user(name), secret=secret)


def reencrypt(*arguments: str) -> str:
    out = StringIO()
    call_command("reencryptsecrets", *arguments, stdout=out)
    return out.getvalue()


def test_secret_is_encrypted_differently_each_time() -> None:
    one, another = encryption.encrypt(SECRET), encryption.encrypt(SECRET)
    assert one != another
    assert encryption.decrypt(one) == encryption.decrypt(another) == SECRET
    assert len(one) <= 200


@pytest.mark.parametrize("kept", [slice(0), slice(50), slice(-1), slice(1, None), slice(None, None, -1)])
def test_damaged_secret_is_detected(kept: slice) -> None:
    with pytest.raises(Undecipherable):
        encryption.decrypt(encryption.encrypt(SECRET)[kept])


def test_database_contains_neither_secret_nor_code(ann_has: Enrolled) -> None:
    rows = repr([*AuthenticatorApp.objects.values_list(), *RecoveryCode.objects.values_list()])
    key = ann_has.device.key
    for secret in (key.hex(), repr(key)[2:-1], b32encode(key).decode(), *ann_has.codes):
        assert secret not in rows
        assert secret.replace("-", "").lower() not in rows.lower()


def test_codes_stay_valid_while_the_former_key_is_a_fallback(ann_has: Enrolled, settings: Settings) -> None:
    rotate(settings)
    assert Browser().answer(challenge(), ann_has.device.code()).status_code == 200


def test_removing_a_key_too_early_leaves_the_recovery_codes(
    ann_has: Enrolled, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rotate(settings, keep=False)
    with caplog.at_level(logging.ERROR, "accounts"):
        response = Browser().answer(challenge(), ann_has.device.code())
    assert (response.status_code, response.json()["code"]) == (401, "invalid_code")
    factor = AuthenticatorApp.objects.get()
    assert caplog.messages == [f"The second factor {factor.pk} can't be decrypted. A key was removed too early."]
    assert Browser().answer(challenge(), ann_has.codes[0]).status_code == 200


def test_command_makes_the_former_key_removable(ann_has: Enrolled, settings: Settings) -> None:
    rotate(settings)
    rotate(settings)
    assert reencrypt() == (
        "Re-encrypted 1 secret.\n"
        "Secrets: 1 encrypted with the current key, 0 with a former key, 0 with an unknown key.\n"
    )
    settings.SECRET_KEY_FALLBACKS = []
    assert Browser().answer(challenge(), ann_has.device.code()).status_code == 200


def test_command_works_in_batches_and_does_nothing_twice(db: None, settings: Settings) -> None:
    for number in range(5):
        keep(encryption.encrypt(SECRET), f"user{number}")
    rotate(settings)
    assert reencrypt("--batch-size=2").startswith("Re-encrypted 5 secrets.\nSecrets: 5 ")
    secrets = set(AuthenticatorApp.objects.values_list("secret", flat=True))
    assert reencrypt("--batch-size=2").startswith("Re-encrypted 0 secrets.\nSecrets: 5 ")
    assert set(AuthenticatorApp.objects.values_list("secret", flat=True)) == secrets
    assert {encryption.decrypt(secret) for secret in secrets} == {SECRET}


def test_command_accepts_an_empty_table(db: None) -> None:
    assert reencrypt().startswith("Re-encrypted 0 secrets.\nSecrets: 0 ")


def test_dry_run_changes_nothing(db: None, settings: Settings) -> None:
    keep(encryption.encrypt(SECRET), "bob")
    assert reencrypt("--check").startswith("Secrets: 1 encrypted with the current key")
    rotate(settings)
    former = keep(encryption.encrypt(SECRET), "carl").secret
    with pytest.raises(
        CommandError, match="Secrets: 1 encrypted with the current key, 1 with a former key, 0 with an unknown"
    ):
        reencrypt("--check")
    assert former in AuthenticatorApp.objects.values_list("secret", flat=True)


def test_command_fails_for_an_undecryptable_secret(db: None) -> None:
    keep("damaged", "bob")
    keep(encryption.encrypt(SECRET), "carl")
    with pytest.raises(CommandError, match=r"1 with an unknown key\. Keep SECRET_KEY_FALLBACKS"):
        reencrypt()
    assert AuthenticatorApp.objects.filter(secret="damaged").exists()


def test_secret_changed_meanwhile_is_not_overwritten(db: None, settings: Settings) -> None:
    factor = keep(encryption.encrypt(SECRET), "bob")
    another = encryption.encrypt(SECRET[::-1])
    rotate(settings)
    with (
        just_before('UPDATE "accounts_authenticatorapp"', lambda: AuthenticatorApp.objects.update(secret=another)),
        pytest.raises(CommandError, match="0 encrypted with the current key, 1 with a former key"),
    ):
        reencrypt()
    factor.refresh_from_db()
    assert factor.secret == another


@pytest.mark.parametrize("size", ["0", "-1", "100001"])
def test_invalid_batch_size_is_refused(size: str) -> None:
    with pytest.raises(CommandError, match="--batch-size must be from 1 to 100000"):
        reencrypt(f"--batch-size={size}")
