"""Measure Latchkey beside SimpleJWT, in one run, and write docs/benchmarks.md: `make bench`."""

import os
import secrets
import sys
from pathlib import Path
from time import monotonic

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.settings_server",
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(64),
}

from benchmarks.databases import databases
from benchmarks.logins import TOLERANCE, refused_logins, spread
from benchmarks.report import page
from benchmarks.stacks import LATCHKEY, SIMPLEJWT, Stack, running

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
ROUNDS = 10
BUDGET = 30
"""Seconds for an engine; a slow machine does fewer rounds."""


def measure(engine: str) -> tuple[Stack, Stack, dict[str, float]]:
    with databases(engine, "latchkey", "simplejwt", "logins") as (ours, theirs, another):
        print(f"{engine}: starting both servers ...", flush=True)
        with running(LATCHKEY, ours) as latchkey, running(SIMPLEJWT, theirs) as simplejwt:
            started = monotonic()
            for number in range(1, ROUNDS + 1):
                for _ in zip(latchkey.round(), simplejwt.round(), strict=True):
                    pass  # Operation by operation, so that whatever else the machine does meets both.
                print(f"{engine}: round {number} of {ROUNDS} is done.", flush=True)
                if monotonic() - started > BUDGET * number / (number + 1):
                    break
        print(f"{engine}: refused logins ...", flush=True)
        return latchkey, simplejwt, refused_logins(another)


def main() -> None:
    measured = {engine: measure(engine) for engine in ("SQLite", "PostgreSQL")}
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(measured))
    print(f"\n{PAGE.read_text()}")
    for engine, (_, _, medians) in measured.items():
        if spread(medians) >= TOLERANCE:
            sys.exit(f"On {engine} the time of a refused login differs by {spread(medians):.1%}.")


if __name__ == "__main__":
    main()
