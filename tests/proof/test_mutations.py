from pathlib import Path

import pytest
from django.db import connection

from tests.proof.counts import Counts
from tests.proof.mutations import MUTATIONS, Mutation, is_noticed
from tests.proof.size import LONG
from tests.server import ROOT

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="each chooses its own database")

SHORT = MUTATIONS[:1]
"""The mutation that `make test` tries."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guarantee)
def test_mutated_line_exists(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.line) == 1
    path, _, name = mutation.test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()


@pytest.mark.parametrize("mutation", MUTATIONS if LONG else SHORT, ids=lambda mutation: mutation.guarantee)
def test_every_mutation_fails_a_test(mutation: Mutation, tmp_path: Path, counts: Counts) -> None:
    assert is_noticed(mutation, tmp_path)
    counts.add("Lines broken on purpose", mutation.guarantee, noticed=1)
