import pytest

from tests.proof.counts import Counts


@pytest.fixture
def counts() -> Counts:
    return Counts()
