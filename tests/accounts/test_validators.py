import pytest
from django.contrib.auth.password_validation import password_validators_help_texts
from pytest_django import Settings

from accounts.models import User
from tests.clients import PASSWORD, Browser

pytestmark = pytest.mark.django_db

REFUSED = {"password": ["This password is too easy to guess on this site."]}


@pytest.fixture(autouse=True)
def words(settings: Settings) -> None:
    settings.AUTH_PASSWORD_VALIDATORS = [
        {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
        {
            "NAME": "accounts.validators.ForbiddenWordsValidator",
            "OPTIONS": {"words": ["Acme", "acmeworks", "Straße", "École"]},
        },
    ]


@pytest.mark.parametrize(
    "password",
    [
        "Acme2027!",
        "ACME-acme-acme",
        "1234567acme",
        "acmeworks-2027",  # the longer word goes whole
        "\N{FULLWIDTH LATIN CAPITAL LETTER A}cme2027!",
        "STRASSE-99",
        "e\N{COMBINING ACUTE ACCENT}cole-2027",
        "strasseacmeworksécole",
    ],
)
def test_password_made_of_forbidden_words_is_refused(password: str) -> None:
    response = Browser().post("/auth/register", {"username": "ann", "password": password})
    assert (response.status_code, response.json()) == (400, REFUSED)
    assert not User.objects.exists()


@pytest.mark.parametrize("password", ["12345678acme", "acme garden horse", "acne2027!", PASSWORD])
def test_password_with_enough_other_characters_is_accepted(password: str) -> None:
    assert Browser().post("/auth/register", {"username": "ann", "password": password}).status_code == 201


def test_short_password_without_a_forbidden_word_gets_one_error() -> None:
    response = Browser().post("/auth/register", {"username": "ann", "password": "x"})
    assert response.json() == {
        "password": ["This password is too short. It must contain at least 8 characters."],
    }


def test_forbidden_words_apply_to_a_change_as_well(ann: User, browser: Browser) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": "Acme2027!"}
    response = browser.post("/auth/password/change", body, browser.access)
    assert (response.status_code, response.json()) == (400, {"newPassword": REFUSED["password"]})
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


def test_help_text_does_not_list_the_words() -> None:
    assert password_validators_help_texts()[-1] == "Your password can't consist mostly of words related to this site."
