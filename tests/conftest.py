"""Fixtures for every test."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import segno
from django.core.cache import cache
from django.db import connections
from django.test import TransactionTestCase
from time_machine import TimeMachineFixture

from accounts.hashers import Argon2idPasswordHasher
from tests import tools, wheel
from tests.server import address_of_database


def pytest_runtest_setup(item: pytest.Item) -> None:
    if line := tools.missing(item.nodeid):
        pytest.skip(line)


@pytest.fixture(autouse=True)
def cheap_hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the smallest parameters that Argon2 allows, except in tests marked `real_hashing`."""
    if not request.node.get_closest_marker("real_hashing"):
        monkeypatch.setattr(Argon2idPasswordHasher, "time_cost", 1)
        monkeypatch.setattr(Argon2idPasswordHasher, "memory_cost", 8)


@pytest.fixture(scope="session", autouse=True)
def cheap_pictures() -> Iterator[None]:
    """Draw QR codes with one mask instead of comparing all eight, which is most of the work of a set-up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segno, "make_qr", partial(segno.make_qr, mask=0))
        yield


@pytest.fixture(scope="session", autouse=True)
def cheap_flushes() -> Iterator[None]:
    """Delete the rows that a test has committed, but keep content types and permissions, which the migrations wrote.

    Django truncates all tables, which costs PostgreSQL a new file for each table and index, and writes those rows anew.
    """

    def flush(case: Any) -> None:
        for alias in case._databases_names(include_mirrors=False):
            database = connections[alias]
            tables = set(database.introspection.django_table_names(only_existing=True, include_views=False))
            tables -= {"auth_permission", "django_content_type"}
            database.ops.execute_sql_flush([f"DELETE FROM {database.ops.quote_name(name)}" for name in sorted(tables)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", flush)
        yield


@pytest.fixture(autouse=True)
def fresh_throttles() -> Iterator[None]:
    """Clear the rates, so no test counts toward another's."""
    yield
    cache.clear()


@pytest.fixture
def clock(request: pytest.FixtureRequest, time_machine: TimeMachineFixture) -> TimeMachineFixture:
    """Set the clock to the test module's START, or else to noon, and stop it unless the module has TICKS."""
    start, ticks = getattr(request.module, "START", "2030-01-01T12:00Z"), getattr(request.module, "TICKS", False)
    time_machine.move_to(start, tick=ticks)
    return time_machine


@pytest.fixture
def database_url(transactional_db: None) -> str:
    """Return the DATABASE_URL of the test database, for servers and commands in other processes."""
    return address_of_database()


@pytest.fixture(scope="session")
def host_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel and nothing else from this repository."""
    folder = tmp_path_factory.getbasetemp()
    # With several processes, each one's folder is inside that of the run.
    return wheel.environment((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "wheel")
