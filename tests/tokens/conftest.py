from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from pytest_django import Settings

from tests.clients import PASSWORD, App, Browser
from tokens import signals


@pytest.fixture
def ann(db: None) -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@pytest.fixture
def django_sign_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign in to the admin as in a project with the app alone: by Django's session, which is in no list of sessions."""
    replaced = {
        "accounts.page_session.AuthenticationMiddleware": "django.contrib.auth.middleware.AuthenticationMiddleware"
    }
    settings.MIDDLEWARE = [replaced.get(entry, entry) for entry in settings.MIDDLEWARE]
    for signal in (user_logged_in, user_logged_out):
        of_the_app = [entry for entry in signal.receivers if entry[1]().__module__.startswith("tokens.")]
        monkeypatch.setattr(signal, "receivers", of_the_app)
        monkeypatch.setattr(signal, "sender_receivers_cache", {})


HEARD = (signals.event_announced, signals.session_started, signals.sessions_revoked)
"""The signals that are sent in the transaction of a login or a logout."""


@pytest.fixture
def heard() -> Iterator[None]:
    """A project that listens to what happens, so its receivers need a transaction."""
    for signal in HEARD:
        signal.connect(_hear)
    yield
    for signal in HEARD:
        signal.disconnect(_hear)


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that does not listen."""
    for signal in HEARD:
        monkeypatch.setattr(signal, "receivers", [])


def _hear(**_: Any) -> None:
    pass


@pytest.fixture
def browser(ann: Any) -> Browser:
    """A browser in which ann has signed in."""
    browser = Browser()
    assert browser.login().status_code == 200
    return browser


@pytest.fixture
def app(ann: Any) -> App:
    """An app in which ann has signed in."""
    app = App()
    assert app.login().status_code == 200
    return app


class KeySetClock:
    """Sets the age of a fetched key set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def key_set_clock(monkeypatch: pytest.MonkeyPatch) -> KeySetClock:
    clock = KeySetClock()
    monkeypatch.setattr("tokens.jose.keys.monotonic", clock)
    return clock
