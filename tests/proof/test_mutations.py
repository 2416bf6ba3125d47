from inspect import signature
from typing import Any

import pytest
from django.db import connection

from tests.proof.counts import Counts
from tests.proof.mutations import MUTATIONS, Mutation, is_noticed
from tests.proof.size import LONG
from tests.server import ROOT

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="each chooses its own database")

SHORT = MUTATIONS[:1]
"""The mutation that `make test` tries."""


def kind(thing: Any) -> Any:
    """Return what a stand-in must have in common with the original."""
    return list(signature(thing).parameters) if callable(thing) else type(thing)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guarantee)
def test_mutation_applies(mutation: Mutation) -> None:
    original = mutation.original
    broken = mutation.broken(original)
    assert broken != original
    assert kind(broken) == kind(original)
    path, _, name = mutation.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()


@pytest.mark.parametrize("mutation", MUTATIONS if LONG else SHORT, ids=lambda mutation: mutation.guarantee)
def test_every_mutation_fails_a_test(mutation: Mutation, counts: Counts) -> None:
    assert is_noticed(mutation)
    counts.add("Guarantees broken on purpose", mutation.guarantee, noticed=1)
