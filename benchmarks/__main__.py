"""Measure Latchkey beside SimpleJWT, in one run, and write docs/benchmarks.md: `make bench`."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from time import monotonic

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.settings_server",
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(64),
}

from benchmarks import peers
from benchmarks.databases import databases
from benchmarks.logins import TOLERANCE, refused_logins, spread
from benchmarks.plot import IMAGES, plot
from benchmarks.processes import CLIENT, SERVERS, run, stay_on
from benchmarks.reading import reading
from benchmarks.report import Measured, bars, page
from benchmarks.stacks import KINDS, LATCHKEY, SIMPLEJWT, Stack, running

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
ROUNDS = int(os.environ.get("ROUNDS", "40"))
BUDGET = int(os.environ.get("BUDGET", "360"))
"""Seconds for the rounds of an engine; a slow machine does fewer."""

SESSIONS = 10_000
AT_ONCE = 1000


def measure(engine: str, pythons: Mapping[str, str]) -> Measured:
    """Measure on that engine; on PostgreSQL also the packages that have one of these Pythons."""
    others = pythons if engine == "PostgreSQL" else {}
    stay_on(SERVERS)
    names = [f"stack{number}" for number in range(len(KINDS) + len(others))]
    with ExitStack() as running_ones, databases(engine, *names, "logins") as (*those, another):
        print(f"{engine}: starting the servers ...", flush=True)
        stacks = [running_ones.enter_context(running(*pair)) for pair in zip(KINDS, those, strict=False)]
        for (name, python), database in zip(others.items(), those[len(KINDS) :], strict=True):
            stacks.append(running_ones.enter_context(peers.running_peer(name, python, database)))
        by_name = {stack.kind.name: stack for stack in stacks}
        stay_on(CLIENT)
        started = monotonic()
        for number in range(1, ROUNDS + 1):
            # One operation at a time, so the machine's other work affects all packages alike.
            for _ in zip_longest(*(stack.round() for stack in stacks)):
                pass
            stacks.reverse()  # so that no package always comes after the same one
            print(f"{engine}: round {number} of {ROUNDS} is done.", flush=True)
            if monotonic() - started > BUDGET * number / (number + 1):
                break
        if engine == "PostgreSQL":
            print(f"{engine}: {SESSIONS} sessions ...", flush=True)
            ask_with_many([by_name[LATCHKEY.name], by_name[SIMPLEJWT.name]])
        print(f"{engine}: refused logins ...", flush=True)
        reads = reading(by_name[LATCHKEY.name].database, LATCHKEY.environment)
        return Measured(by_name, refused_logins(another), reads)


def ask_with_many(stacks: Sequence[Stack]) -> None:
    """Send that many different tokens, each twice, so the result doesn't depend on a small cache."""
    tokens = {}
    for stack in stacks:
        printed = run(stack.database.url, stack.kind.environment, "benchmarks.prepare", "tokens", str(SESSIONS))
        tokens[stack.kind.name] = json.loads(printed)
    for operation in ("guarded, many sessions", "guarded, many sessions, again"):
        for start in range(0, SESSIONS, AT_ONCE):
            for stack in stacks:
                stack.many(tokens[stack.kind.name][start : start + AT_ONCE], operation)


def main() -> None:
    pythons = peers.installed()
    measured = {engine: measure(engine, pythons) for engine in ("SQLite", "PostgreSQL")}
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(measured, SESSIONS))
    for scheme in ("light", "dark"):
        (IMAGES / f"benchmarks-{scheme}.svg").write_text(plot(bars(measured["PostgreSQL"].stacks), scheme))
    print(f"\n{PAGE.read_text()}")
    for engine, its in measured.items():
        if spread(its.refused_logins) >= TOLERANCE:
            sys.exit(f"On {engine} the time of a refused login differs by {spread(its.refused_logins):.1%}.")


if __name__ == "__main__":
    main()
