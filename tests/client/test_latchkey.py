"""Runs the JavaScript tests of the client's logic, which need only Node.js."""

import subprocess
from pathlib import Path

import pytest

from tests.tools import NODE


@pytest.mark.parametrize("script", sorted(Path(__file__).parent.glob("*.test.mjs")), ids=lambda path: path.name)
def test_client_passes_its_javascript_tests(script: Path) -> None:
    assert NODE
    command = [NODE, "--test", "--test-reporter=spec", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
