"""The client's address, in the forms in which servers give it."""

import logging
from typing import Any

import pytest
from django.test import RequestFactory
from pytest_django import Settings

from tests.clients import PASSWORD, Browser
from tokens.http import requests
from tokens.models import Session


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:50000", "192.0.2.1"),
        ("[2001:db8::1]:50000", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ("", None),
        ("unix:", None),
        ("a:b:c", None),
    ],
)
def test_address_is_parsed_in_every_form(rf: RequestFactory, given: str, address: str | None) -> None:
    assert requests.client_of(rf.get("/", REMOTE_ADDR=given)).ip_address == address


def test_missing_address_is_logged_once(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    requests._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "tokens.http.requests"):
        for given in ("", "nonsense", "192.0.2.1:80", ""):
            requests.client_of(rf.get("/", REMOTE_ADDR=given))
    assert [record.getMessage()[:26] for record in caplog.records] == ["REMOTE_ADDR has no address"]


def test_clients_with_a_port_in_their_address_have_separate_limits(ann: Any, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (1, 60.0)}
    browser = Browser()
    assert browser.login("ann", "wrong", REMOTE_ADDR="192.0.2.1:50000").status_code == 401
    assert browser.login("ann", "wrong", REMOTE_ADDR="192.0.2.1:50001").status_code == 429
    assert browser.login("ann", PASSWORD, REMOTE_ADDR="192.0.2.2:50000").status_code == 200
    assert Session.objects.get().ip_address == "192.0.2.2"
