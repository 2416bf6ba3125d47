"""Passwords that are typed in another Unicode form than the stored one."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.hashers import make_password

from accounts.hashers import Argon2idPasswordHasher
from accounts.models import User
from tests.clients import Browser

pytestmark = pytest.mark.django_db

COMPOSED = "cr\u00e8me br\u00fbl\u00e9e"
DECOMPOSED = "cre\u0300me bru\u0302le\u0301e"
WIDE = "\uff43\uff52\u00e8me br\u00fbl\u00e9e"
SPELLINGS = [COMPOSED, DECOMPOSED, WIDE]


@pytest.mark.parametrize("chosen", SPELLINGS)
@pytest.mark.parametrize("typed", SPELLINGS)
def test_every_spelling_of_the_password_signs_in(chosen: str, typed: str) -> None:
    browser = Browser()
    registered = browser.post("/auth/register", {"username": "ann", "password": chosen})
    assert registered.status_code == 201
    assert browser.login(password=typed).status_code == 200
    assert browser.reauthenticate(typed).status_code == 200
    assert browser.login(password="creme brulee").status_code == 401


@pytest.mark.parametrize("typed", SPELLINGS)
def test_password_stored_before_normalising_still_signs_in(ann: User, typed: str) -> None:
    User.objects.update(password=make_password(typed))
    assert Browser().login(password=typed).status_code == 200


@pytest.mark.parametrize("typed", SPELLINGS)
def test_unknown_and_known_names_take_the_same_work(ann: User, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    hashed: list[str] = []

    def encode(self: Argon2idPasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return "argon2$x"

    def verify(self: Argon2idPasswordHasher, password: str, encoded: str) -> bool:
        hashed.append(password)
        return False

    monkeypatch.setattr(Argon2idPasswordHasher, "encode", encode)
    monkeypatch.setattr(Argon2idPasswordHasher, "verify", verify)
    work = []
    for name in ("ann", "nobody"):
        assert authenticate(None, username=name, password=typed) is None
        work.append(len(hashed))
        hashed.clear()
    assert work == [len({typed, COMPOSED})] * 2


def test_long_password_is_not_normalised(ann: User) -> None:
    long = "e\u0301" * 50_000
    ann.set_password(long)
    assert ann.check_password(long)
    assert authenticate(None, username="ann", password=long) is None


def test_empty_password_signs_nobody_in(ann: User) -> None:
    assert authenticate(None, username="ann", password=None) is None
    ann.set_password(None)
    assert not ann.has_usable_password()


def test_backend_also_signs_in_asynchronously(ann: User) -> None:
    ann.set_password(COMPOSED)
    ann.save()
    assert async_to_sync(aauthenticate)(None, username="ann", password=DECOMPOSED) == ann
