"""Rotating SECRET_KEY while two servers share a database signs nobody out."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.clients import claims_of, header_of
from tests.server import serve
from tests.services.wire import Client, call, sign_in
from tokens.models import Session

OLD = "the former key of the fleet: " + "0123456789abcdefghij" * 3
NEW = "the coming key of the fleet: " + "jihgfedcba9876543210" * 3
PUBLIC_URL = "https://auth.example.com"


class Server:
    """One of several servers. Its configuration changes with a restart, while the others keep running."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.running = ExitStack()
        self.url = ""

    def configure(self, secret_key: str, *fallbacks: str) -> None:
        self.running.close()
        self.url = self.running.enter_context(
            serve(
                self.database_url,
                SECRET_KEY=secret_key,
                SECRET_KEY_FALLBACKS=",".join(fallbacks),
                PUBLIC_URL=PUBLIC_URL,
                ALLOWED_HOSTS="127.0.0.1",
                REFRESH_GRACE_PERIOD="60",
                THROTTLING="off",
                WORKERS="1",
            )
        )

    def key_set(self) -> set[str]:
        return {key["kid"] for key in call("GET", f"{self.url}/.well-known/jwks.json").body["keys"]}


@pytest.fixture
def fleet(ann: Any, database_url: str) -> Iterator[tuple[Server, Server]]:
    first, second = Server(database_url), Server(database_url)
    with first.running, second.running:
        first.configure(OLD)
        second.configure(OLD)
        yield first, second


def test_secret_key_is_rotated_with_everybody_signed_in(fleet: tuple[Server, Server]) -> None:
    first, second = fleet
    [old] = first.key_set()
    people: list[Client] = []

    def live_on() -> None:
        """An hour later, sign in at each server, and make every client refresh, retry and call the API at both."""
        Session.objects.update(rotated_at=timezone.now() - timedelta(hours=1))
        people.extend([sign_in(first.url), sign_in(second.url)])
        for number, client in enumerate(people):
            here, there = (first.url, second.url) if number % 2 else (second.url, first.url)
            exchanged = client.refresh
            assert client.refreshed(here).status == 200
            given = client.refresh
            lost = Client(client.access, exchanged)
            assert lost.refreshed(there).status == 200
            assert claims_of(lost.refresh) == claims_of(given) != claims_of(exchanged)
            assert client.is_signed_in(there)
            assert lost.is_signed_in(here)

    live_on()
    # First the new key into everyone's fallbacks, so that all accept and publish it,
    for server in (first, second):
        server.configure(OLD, NEW)
        live_on()
    assert first.key_set() == second.key_set() == {old, *first.key_set()}
    assert len(first.key_set()) == 2
    # then swap,
    for server in (first, second):
        server.configure(NEW, OLD)
        live_on()
    assert {header_of(sign_in(server.url).access)["kid"] for server in fleet} == first.key_set() - {old}
    # then take the old one out.
    for server in (first, second):
        server.configure(NEW)
        live_on()

    assert first.key_set() == second.key_set()
    assert old not in first.key_set()


def test_skipping_the_first_step_breaks_verification(fleet: tuple[Server, Server]) -> None:
    first, second = fleet
    first.configure(NEW, OLD)

    assert not sign_in(first.url).is_signed_in(second.url)


def test_server_does_not_start_with_an_unusable_key(ann: Any, database_url: str) -> None:
    with (
        pytest.raises(RuntimeError, match=r"The signing key /nowhere/key\.pem can't be read: No such file"),
        serve(database_url, SIGNING_KEYS="/nowhere/key.pem"),
    ):
        pass
