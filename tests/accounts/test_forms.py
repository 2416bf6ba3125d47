"""The admin's own login: the limits on guessing hold there, and so does the second factor."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.models import User
from tests.accounts.devices import Enrolled, set_up
from tests.clients import PASSWORD, Browser
from tests.racing import just_before
from tokens.models import SecurityEvent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

LOGIN = "/admin/login/"
REFUSED = [
    "Please enter the correct username and password for a staff account. Note that both fields may be case-sensitive."
]


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", PASSWORD)


@pytest.fixture
def root_has(root: User, clock: TimeMachineFixture) -> Enrolled:
    browser = Browser()
    browser.login("root")
    enrolled = set_up(browser)
    clock.shift(60)
    return enrolled


def login(client: Client | None = None, /, **form: str) -> Any:
    form = {"username": "root", "password": PASSWORD, "next": "/admin/", **form}
    return (client or Client()).post(LOGIN, form)


def errors_of(response: Any, status: int = 200) -> dict[str, list[str]]:
    assert response.status_code == status
    assert "sessionid" not in response.cookies
    errors: dict[str, list[str]] = response.context["form"].errors
    return errors


def test_page_has_an_optional_field_for_the_code(root: User) -> None:
    client = Client()
    page = client.get(LOGIN).content.decode()
    assert 'autocomplete="one-time-code"' in page
    assert "required" not in page.split('name="code"')[1].split(">")[0]
    assert login(client).status_code == 302
    assert client.get("/admin/").status_code == 200


def test_right_password_and_code_sign_in(root_has: Enrolled) -> None:
    client = Client()
    response = login(client, code=root_has.device.code())
    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert client.get("/admin/").status_code == 200


def test_recovery_code_signs_in(root_has: Enrolled) -> None:
    assert login(code=root_has.codes[0]).status_code == 302
    assert errors_of(login(code=root_has.codes[0])) == {"code": ["This code is wrong or was already used."]}


def test_missing_code_is_asked_for_and_not_counted_as_a_try(root_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (1, 300.0)}
    for _ in range(2):
        assert errors_of(login()).keys() == {"code"}
    response = login()
    assert errors_of(response) == {"code": ["Enter the code from your authenticator app, or a recovery code."]}
    assert "Enter the code from your authenticator app, or a recovery code." in response.content.decode()
    assert login(code=root_has.device.code()).status_code == 302


def test_code_works_once_across_all_forms(root_has: Enrolled) -> None:
    code = root_has.device.code()
    assert login(code=code).status_code == 302
    assert errors_of(login(code=code)) == {"code": ["This code is wrong or was already used."]}
    browser = Browser()
    challenge = browser.login("root").json()["challenge"]
    assert browser.answer(challenge, code).status_code == 401


def test_wrong_password_error_does_not_mention_the_code(root_has: Enrolled) -> None:
    for name in ("root", "nobody"):
        response = login(username=name, password="wrong", code=root_has.device.code())
        assert errors_of(response) == {"__all__": REFUSED}
    assert login(code=root_has.device.code()).status_code == 302
    assert SecurityEvent.objects.filter(kind="login_failed").count() == 1


@pytest.mark.parametrize("form", [{"username": ""}, {"password": ""}, {"code": "x" * 101}])
def test_incomplete_form_is_not_verified(root: User, form: dict[str, str]) -> None:
    assert errors_of(login(None, **form)).keys() == form.keys()


def test_user_who_is_not_staff_is_refused(ann: User) -> None:
    assert errors_of(login(username="ann")) == {"__all__": REFUSED}


def test_limits_on_passwords_hold(root: User, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (2, 60.0)}
    assert [errors_of(login(password="wrong")) for _ in range(2)] == [{"__all__": REFUSED}] * 2
    response = login()
    assert errors_of(response, 429) == {"__all__": ["Too many tries. Try again in 60 seconds."]}
    assert response["Retry-After"] == "60"
    assert Browser().login("root").status_code == 429


def test_ip_address_that_tries_many_names_is_throttled(root: User, settings: Settings) -> None:
    settings.TOKENS_THROTTLE_RATES = {"login": "2/min"}
    for name in ("ann", "ben"):
        errors_of(login(username=name))
    response = login()
    assert response["Retry-After"] == "60"
    assert errors_of(response, 429) == {"__all__": ["Too many tries. Try again in 60 seconds."]}
    assert Browser().login("root").status_code == 429


def test_limits_on_codes_hold(root_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (2, 300.0)}
    for _ in range(2):
        assert errors_of(login(code=root_has.device.wrong())).keys() == {"code"}
    response = login(code=root_has.device.code())
    assert errors_of(response, 429) == {"__all__": ["Too many tries. Try again in 300 seconds."]}
    assert response["Retry-After"] == "300"
    assert "Too many tries" in response.content.decode()


def test_password_changed_at_that_moment_signs_nobody_in(root_has: Enrolled) -> None:
    client = Client()
    with just_before('UPDATE "accounts_authenticatorapp"', lambda: User.objects.update(password="!")):
        login(client, code=root_has.device.code())
    response: Any = client.get("/admin/")
    assert (response.status_code, response["Location"]) == (302, "/admin/login/?next=/admin/")
