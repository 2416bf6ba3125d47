"""Limits on guessing."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import App, Browser
from tests.racing import in_parallel
from tokens.domain import limits, users
from tokens.exceptions import TooManyTries
from tokens.models import Bucket, SecurityEvent

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def small(settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (3, 60.0), "login_anywhere": (5, 300.0)}


def fail(username: str = "ann", address: str = "192.0.2.1") -> int:
    status: int = Browser().login(username, "wrong", REMOTE_ADDR=address).status_code
    return status


@pytest.mark.parametrize("username", ["ann", "nobody"])
def test_tries_beyond_the_limit_are_throttled_for_known_and_unknown_names_alike(ann: Any, username: str) -> None:
    assert [fail(username) for _ in range(4)] == [401, 401, 401, 429]
    response = Browser().login(username, "wrong", REMOTE_ADDR="192.0.2.1")
    assert response.json()["code"] == "throttled"
    assert response["Retry-After"] == "60"


def test_right_password_is_not_checked_once_throttled(ann: Any) -> None:
    for _ in range(3):
        fail()
    assert Browser().login(REMOTE_ADDR="192.0.2.1").status_code == 429
    assert SecurityEvent.objects.get().count == 3


def test_limit_covers_both_transports_and_every_spelling(ann: Any) -> None:
    spellings = iter(["ann", "ANN", "\uff41nn"])
    assert Browser().login(next(spellings), "wrong").status_code == 401
    assert App().login(next(spellings), "wrong").status_code == 401
    assert Browser().login(next(spellings), "wrong").status_code == 401
    assert App().login("Ann", "wrong").status_code == 429


def test_each_interval_gives_back_one_try(ann: Any, clock: TimeMachineFixture) -> None:
    for _ in range(3):
        fail()
    clock.shift(59)
    assert fail() == 429
    clock.shift(1)
    assert [fail(), fail()] == [401, 429]


def test_success_gives_back_all_tries(ann: Any) -> None:
    for _ in range(2):
        fail()
    assert Browser().login(REMOTE_ADDR="192.0.2.1").status_code == 200
    assert [fail() for _ in range(4)] == [401, 401, 401, 429]


def test_strangers_tries_do_not_lock_the_owner_out(ann: Any, clock: TimeMachineFixture) -> None:
    Browser().login(REMOTE_ADDR="198.51.100.1")
    for last in range(5):
        assert fail(address=f"192.0.2.{last}") == 401
    assert fail(address="192.0.2.9") == 429
    assert Browser().login(REMOTE_ADDR="192.0.2.9").status_code == 429
    assert Browser().login(REMOTE_ADDR="198.51.100.1").status_code == 200


def test_owner_with_a_changing_ipv6_address_is_not_locked_out(ann: Any) -> None:
    Browser().login(REMOTE_ADDR="2001:db8::1")
    for last in range(5):
        fail(address=f"192.0.2.{last}")
    assert Browser().login(REMOTE_ADDR="2001:db8:0:1::1").status_code == 429
    assert Browser().login(REMOTE_ADDR="2001:db8::2").status_code == 200


def test_throttling_known_and_unknown_names_takes_the_same_work(ann: Any) -> None:
    statements = []
    for name in ("ann", "nobody"):
        for last in range(5):
            fail(name, f"192.0.2.{last}")
        with CaptureQueriesContext(connection) as queries:
            assert fail(name, "192.0.2.9") == 429
        statements.append(len(queries))
    assert statements[0] == statements[1]


def test_unknown_name_is_limited_over_all_addresses_too(ann: Any) -> None:
    assert [fail("nobody", f"192.0.2.{last}") for last in range(6)] == [401] * 5 + [429]


def test_addresses_of_one_ipv6_network_count_as_one(ann: Any) -> None:
    assert [fail(address=f"2001:db8::{last}") for last in range(1, 5)] == [401, 401, 401, 429]
    assert fail(address="2001:db8:0:1::1") == 401


def test_ipv4_mapped_addresses_count_separately(ann: Any) -> None:
    assert [fail(address="::ffff:192.0.2.1") for _ in range(3)] == [401, 401, 401]
    assert fail(address="192.0.2.1") == 429
    assert fail(address="::ffff:192.0.2.2") == 401
    assert SecurityEvent.objects.get().ip_address == "192.0.2.2"


def test_client_without_an_address_is_limited_too(ann: Any) -> None:
    assert [fail(address="") for _ in range(4)] == [401, 401, 401, 429]


def test_names_share_a_bounded_table(ann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SLOTS", 4)
    for number in range(20):
        fail(f"name{number}")
    assert Bucket.objects.count() <= 4


def test_throttling_can_be_switched_off(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING = False
    assert {fail() for _ in range(9)} == {401}
    assert not Bucket.objects.exists()


def test_overtaken_try_is_not_refused(db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TOKENS_LIMITS = {"password": (2, 60.0)}
    readings = iter([100.5, 100.0, 100.6, 100.7, 100.8, 100.9])
    monkeypatch.setattr(limits, "time", lambda: next(readings))
    limits.spend("password", "1")
    limits.spend("password", "1")
    with pytest.raises(TooManyTries) as refused:
        limits.spend("password", "1")
    assert refused.value.wait == 60


@pytest.mark.django_db(transaction=True)
def test_parallel_tries_are_counted_exactly(settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"password": (5, 60.0)}
    results = in_parallel(*[lambda: limits.spend("password", "1")] * 20)
    assert results.count(None) == 5
    assert sum(isinstance(result, TooManyTries) for result in results) == 15


@pytest.mark.django_db
def test_clock_that_was_ahead_does_not_extend_a_lockout(clock: TimeMachineFixture, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"password": (3, 60.0)}

    def spend() -> int:
        try:
            limits.spend("password", "1")
        except TooManyTries as refused:
            return refused.wait
        return 0

    clock.shift(30 * 86400)
    assert [spend() for _ in range(4)] == [0, 0, 0, 60]
    clock.shift(-30 * 86400)
    assert spend() == 60
    clock.shift(59)
    assert spend() == 1
    clock.shift(1)
    assert [spend(), spend()] == [0, 60]
    clock.shift(180)
    assert [spend() for _ in range(4)] == [0, 0, 0, 60]


@pytest.mark.django_db
def test_tightened_limit_does_not_extend_a_lockout(settings: Settings, clock: TimeMachineFixture) -> None:
    settings.TOKENS_LIMITS = {"password": (100, 600.0)}
    for _ in range(100):
        limits.spend("password", "1")
    settings.TOKENS_LIMITS = {"password": (2, 60.0)}
    with pytest.raises(TooManyTries):
        limits.spend("password", "1")
    clock.shift(60)
    limits.spend("password", "1")


def test_spellings_of_one_user_share_one_limit(ann: Any) -> None:
    # The same name in lower case; in capitals, with decomposed marks in another order; and with the micro sign.
    spellings = [
        "\u03bc\u03b1\u0390\u03bf\u03c5",
        "\u039c\u0391\u0399\u0308\u0301\u039f\u03a5",
        "\u00b5\u03b1\u03b9\u0308\u0301\u03bf\u03c5",
    ]
    assert [fail(spelling) for spelling in (*spellings, spellings[0])] == [401, 401, 401, 429]


def test_custom_manager_defines_equal_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    manager: Any = get_user_model()._default_manager
    monkeypatch.setattr(manager, "key_of", lambda name: name[:1], raising=False)
    assert users.key_of("Ann") == "A"
    monkeypatch.setattr(manager, "key_of", None)
    assert users.key_of("\uff21nn") == "ann"


def test_flooding_address_is_throttled(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLE_RATES = {"refresh": "2/min"}
    assert [Browser().refresh(REMOTE_ADDR="192.0.2.1").status_code for _ in range(3)] == [401, 401, 429]
    assert Browser().refresh(REMOTE_ADDR="192.0.2.2").status_code == 401


def test_throttled_refresh_leaves_the_cookie(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_THROTTLE_RATES = {"refresh": "1/min"}
    browser.refresh()
    cookie = browser.cookie
    response = browser.refresh()
    assert (response.status_code, response.json()["code"]) == (429, "throttled")
    assert 0 < int(response["Retry-After"]) <= 60
    assert browser.cookie == cookie


def test_flood_passes_with_throttling_off(ann: Any, settings: Settings) -> None:
    settings.TOKENS_THROTTLING, settings.TOKENS_THROTTLE_RATES = False, {"refresh": "1/min"}
    assert [Browser().refresh().status_code for _ in range(2)] == [401, 401]


def test_unreachable_cache_throttles_nobody(
    browser: Browser, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/dev/null"}
    }
    assert browser.refresh().status_code == 200
    assert "rates per address are not counted" in caplog.text
