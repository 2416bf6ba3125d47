"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.core.management import get_commands, load_command_class

from accounts.hashers import Argon2idPasswordHasher
from tests import tools
from tests.server import address_of_database

UNTRACED = (
    "tests/proof/",
    "tests/services/",
    "tests/test_stories.py",
    "tests/tokens/test_attacks.py",
    "tests/api/test_hostile.py",
)
"""What does the same thing many times; each line that it reaches is reached by a test of its own as well."""


def pytest_collection() -> None:
    """Import the commands, which Django does in passing: perhaps in a test that is not traced."""
    for name, app in get_commands().items():
        if app in ("accounts", "tokens"):
            load_command_class(app, name)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.nodeid.startswith(UNTRACED):
        item.add_marker("no_cover")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if line := tools.missing(item.nodeid):
        pytest.skip(line)


@pytest.fixture(autouse=True)
def cheap_hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the least Argon2 allows, save in tests marked `real_hashing`."""
    if not request.node.get_closest_marker("real_hashing"):
        monkeypatch.setattr(Argon2idPasswordHasher, "time_cost", 1)
        monkeypatch.setattr(Argon2idPasswordHasher, "memory_cost", 8)


@pytest.fixture(autouse=True)
def fresh_throttles() -> Iterator[None]:
    """Let no test count towards the limit of another."""
    yield
    cache.clear()


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """Return the DATABASE_URL of the test database, for servers and commands in processes of their own."""
    return address_of_database()
