"""Runs the whole proof on both databases and writes the tables of docs/proof.md: `python -m tests.proof.report`."""

import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "proof.md"
BEGIN, END = "<!-- written by make proof -->", "<!-- end of what make proof wrote -->"
ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

Rows = dict[tuple[str, str], dict[str, int]]


def run(engine: str, folder: str) -> int:
    """Run the proof on one engine; return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "--numprocesses=auto", "--maxprocesses=4", "tests/proof"]
    environment = {**os.environ, "TEST_DATABASE": engine, "PROOF": "long", "PROOF_FIGURES": folder}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def collect(folder: Path) -> dict[str, Rows]:
    """Add up the figures by table, row and engine."""
    tables: dict[str, Rows] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            table, row, vendor, figures = json.loads(line)
            for name, number in figures.items():
                tables[table][row, ENGINES[vendor]][name] += number
    return tables


def render(tables: dict[str, Rows]) -> str:
    lines = [
        f"Run on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, {os.cpu_count()} processors.",
        "",
    ]
    for title, rows in sorted(tables.items()):
        names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
        header = ["what", "database", *(name.replace("_", " ") for name in names)]
        lines += [f"### {title}", "", f"| {' | '.join(header)} |", f"|{' --- |' * 2}{' ---: |' * len(names)}"]
        for (row, engine), figures in sorted(rows.items()):
            cells = [row, engine, *(f"{figures[name]:,}" if name in figures else "" for name in names)]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    with TemporaryDirectory(prefix="latchkey-figures-") as folder:
        failed = [engine for engine in ENGINES if run(engine, folder)]
        tables = collect(Path(folder))
    if failed:
        return 1  # the output above shows what failed; the page keeps the figures of the last good run
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{render(tables)}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
