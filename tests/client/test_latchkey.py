"""Runs the tests of the client's own logic, which are in its own language."""

import subprocess
from pathlib import Path

from tests.tools import NODE


def test_client_does_what_its_tests_ask() -> None:
    assert NODE
    command = [NODE, "--test", "--test-reporter=spec", str(Path(__file__).with_name("latchkey.test.mjs"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
