import os

import pytest

from tests.proof.counts import Counts


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each process some of these tests first: they wait for servers, while others use the CPU.

    pytest-xdist hands each process as many consecutive tests, and lets it take more from the end of another's.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    waiting = [item for item in items if item.nodeid.startswith("tests/proof/")]
    others = [item for item in items if not item.nodeid.startswith("tests/proof/")]
    items[:] = [
        item
        for share in range(processes)
        for part in (waiting, others)
        for item in part[len(part) * share // processes : len(part) * (share + 1) // processes]
    ]


@pytest.fixture
def counts() -> Counts:
    return Counts()
