from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import PositiveIntegerField
from django.test import RequestFactory
from pytest_django import Settings

from tests.clients import App, Browser
from tokens.domain import users
from tokens.domain.client import UNKNOWN
from tokens.http.requests import client_of
from tokens.models import SecurityEvent


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "192.0.2.7", "127.0.0.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1, 192.0.2.7:4711", "192.0.2.7"),
        (1, "198.51.100.1,[2001:db8::7]:4711", "2001:db8::7"),
        (1, "2001:db8::7%eth0", "2001:db8::7"),
        (1, "::ffff:192.0.2.7", "192.0.2.7"),
        (2, "198.51.100.1, 192.0.2.7, 10.0.0.1", "192.0.2.7"),
        (2, "192.0.2.7", "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "unknown", "127.0.0.1"),
        (1, "[", "127.0.0.1"),
    ],
)
def test_address_comes_from_the_trusted_proxies(
    rf: RequestFactory, settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TOKENS_TRUSTED_PROXIES = proxies
    assert client_of(rf.get("/", headers={"x-forwarded-for": forwarded})).ip_address == address


def test_client_is_unknown_without_a_request() -> None:
    assert client_of(None) == UNKNOWN


@pytest.fixture
def names_are_numbers(monkeypatch: pytest.MonkeyPatch, ann: Any) -> None:
    """Make usernames numbers."""
    meta, real = type(ann)._meta, type(ann)._meta.get_field
    number = PositiveIntegerField()

    def get_field(name: str) -> Any:
        return number if name == type(ann).USERNAME_FIELD else real(name)

    monkeypatch.setattr(meta, "get_field", get_field)


@pytest.mark.django_db
@pytest.mark.usefixtures("names_are_numbers")
def test_impossible_username_matches_nobody() -> None:
    assert users.as_name("12") == 12
    for name in ("ann", "-1", "9" * 30, None):
        with pytest.raises((ValidationError, FieldDoesNotExist)):
            users.as_name(name)
        assert users.named(name) is None
    assert App().login("ann").data["code"] == "no_active_account"
    assert Browser().login("ann").data["code"] == "invalid_credentials"
    assert not SecurityEvent.objects.exists()
