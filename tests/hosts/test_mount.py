import json
from typing import Any

import pytest

from tests.hosts.conftest import Host


@pytest.fixture
def other_database(host: Host) -> dict[str, Any]:
    other: dict[str, Any] = json.loads(json.dumps(host.database))
    other["TEST"]["NAME"] += "_other"
    if "sqlite" in other["ENGINE"]:
        other["NAME"] += ".other"
    host.environment["OTHER_DATABASE"] = json.dumps(other)
    return other


@pytest.mark.usefixtures("other_database")
@pytest.mark.parametrize("environment", [{}, {"ATOMIC": "1"}, {"NAIVE": "1"}, {"ATOMIC": "1", "SESSIONS_IN": "people"}])
def test_app_works_wherever_a_project_mounts_it(host: Host, environment: dict[str, str]) -> None:
    host.environment |= environment
    host.manage("check", "--fail-level", "WARNING")
    host.test()


@pytest.mark.usefixtures("other_database")
def test_unsupported_setups_are_reported_by_a_check(host: Host) -> None:
    host.environment |= {"USERS_IN": "people", "COOKIE_PATH": "/auth"}
    printed = host.manage("check", fails=True)
    assert "(latchkey.E020) Users are in DATABASES['people'], but must be in 'default' with the sessions" in printed
    assert "(latchkey.E005) TOKENS_COOKIE_PATH must cover /shop/<str:version>/auth/refresh-token" in printed
