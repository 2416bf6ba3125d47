"""Clients that generators make from the OpenAPI schema compile in strict mode, and work."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients import PASSWORD

HERE = Path(__file__).with_name("generated")


def test_clients_generated_from_the_schema_compile_and_work(issuer: str, ann: Any, tmp_path: Path) -> None:
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("No client was generated: it needs Node 20 or newer, with npm (https://nodejs.org).")
    app = tmp_path / "app"
    shutil.copytree(HERE, app, ignore=shutil.ignore_patterns("node_modules"))
    generator = str(Path(sys.executable).with_name("openapi-generator-cli"))

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=app, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    run("npm", "ci", "--no-audit", "--no-fund")
    schema = f"{issuer}/api/schema/?format=json"
    run("npx", "openapi-typescript", schema, "--default-non-nullable=false", "--output", "schema.ts")
    run(generator, "generate", "-g", "typescript-fetch", "-i", schema, "-o", "client")
    run("npx", "tsc")
    printed = run("node", "out/use.js", issuer, "ann", PASSWORD)

    assert printed.splitlines() == ["ann false", "ann false"]
