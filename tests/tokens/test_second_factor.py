"""The hook with which a project requires a second step, and what the tokens say about it."""

from typing import Any

import pytest
from pytest_django import Settings

from tests.clients import App, Browser, claims_of
from tokens.domain import sessions
from tokens.exceptions import SecondFactorRequired
from tokens.models import SecurityEvent, Session
from tokens.tokens import AccessToken


@pytest.fixture(autouse=True)
def hook(settings: Settings) -> None:
    settings.TOKENS_SECOND_FACTOR = "tests.tokens.factors"


def challenge(client: Browser | App, **login: Any) -> str:
    return str(client.login(**login).json()["challenge"])


@pytest.mark.parametrize("client", [Browser, App])
def test_right_password_is_answered_with_a_challenge(ann: Any, client: type[Browser | App]) -> None:
    response = client().login()
    assert response.status_code == 401
    assert response.json() == {
        "detail": SecondFactorRequired.message,
        "code": "second_factor_required",
        "challenge": response.json()["challenge"],
        "methods": ["pin"],
        "hint": "the number of ann",
    }
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert not Session.objects.exists()
    assert not SecurityEvent.objects.exists()


@pytest.mark.parametrize("client", [Browser, App])
def test_right_answer_signs_in(ann: Any, client: type[Browser | App]) -> None:
    one = client()
    assert one.answer(challenge(one), "4711").status_code == 200
    assert claims_of(one.access)["amr"] == ["pwd", "pin"]
    assert one.refresh().status_code == 200


@pytest.mark.parametrize("client", [Browser, App])
def test_wrong_answer_is_refused_with_the_factors_message(ann: Any, client: type[Browser | App]) -> None:
    one = client()
    response = one.answer(challenge(one), "4712")
    assert response.status_code == 401
    assert response.json() == {"detail": "That is not your number.", "code": "invalid_pin"}
    assert not Session.objects.exists()


@pytest.mark.parametrize("client", [Browser, App])
def test_challenge_is_void_without_a_second_factor(ann: Any, settings: Settings, client: type[Browser | App]) -> None:
    one = client()
    given = challenge(one)
    settings.TOKENS_SECOND_FACTOR = None
    response = one.answer(given, "4711")
    assert (response.status_code, response.json()["code"]) == (401, "invalid_challenge")


@pytest.mark.parametrize("remember", [True, False])
def test_challenge_carries_whether_to_remember(ann: Any, remember: bool) -> None:
    browser = Browser()
    assert browser.answer(challenge(browser, remember=remember), "4711").status_code == 200
    assert Session.objects.get().remembered is remember


@pytest.mark.parametrize("client", [Browser, App])
@pytest.mark.parametrize("state", ["wrong", "deactivated"])
def test_wrong_password_and_deactivated_account_reveal_no_factor(
    ann: Any, settings: Settings, client: type[Browser | App], state: str
) -> None:
    type(ann)._default_manager.update(is_active=state != "deactivated")
    password = {"password": "wrong"} if state == "wrong" else {}
    answer = client().login(**password)
    settings.TOKENS_SECOND_FACTOR = None
    expected = client().login(**password)
    assert (answer.status_code, answer.json()) == (401, expected.json())
    assert "challenge" not in answer.json()


@pytest.mark.parametrize("client", [Browser, App])
def test_user_without_a_second_factor_is_signed_in(
    ann: Any, django_user_model: Any, client: type[Browser | App]
) -> None:
    django_user_model._default_manager.create_user("bob", email="bob@example.com", password="another horse battery")
    one = client()
    assert one.login("bob", "another horse battery").status_code == 200
    assert claims_of(one.access)["amr"] == ["pwd"]


def test_right_password_resets_the_tries(ann: Any, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (2, 60.0)}
    answers = [Browser().login(password=password) for password in ("wrong", "correct horse battery staple") * 2]
    assert [answer.json()["code"] for answer in answers] == ["invalid_credentials", "second_factor_required"] * 2


def test_amr_stays_through_all_refreshes(ann: Any) -> None:
    session = sessions.start(ann, amr=["pwd", "otp"])
    assert AccessToken.of(session)["amr"] == ["pwd", "otp"]
    assert AccessToken.of(Session.objects.get())["amr"] == ["pwd", "otp"]
    assert AccessToken(str(AccessToken.of(session)))["amr"] == ["pwd", "otp"]
