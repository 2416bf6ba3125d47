"""docs/benchmarks.md, from what was measured."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median

from benchmarks.logins import TOLERANCE, TRIES, spread
from benchmarks.stacks import ALONE, CLIENTS, TOGETHER, Stack

OPERATIONS = ("login", "refresh", "retry", "guarded", "guarded, first use", "guarded, stateless")

INTRODUCTION = """\
# Benchmarks

`make bench` measures Latchkey beside SimpleJWT and writes this page. It takes less than three minutes.

The same bare project is served twice, once with the app `tokens`, once with SimpleJWT, its rotation and its blacklist
on and its other settings as they come. Both have the same middleware, the same stock user, the same view to guard, the
same gunicorn (2 workers of 4 threads), the same engine with the same settings; PostgreSQL waits for the disk at each
commit, SQLite runs in WAL mode. They take turns, operation by operation. Limits on guessing are off, and passwords are
hashed with MD5, since a real hash costs the same in both and would drown the rest. SimpleJWT signs with HMAC, its
default, and Latchkey signs access tokens with Ed25519. The client shares the machine with server and database, so the
ratios mean more than the figures.

- **login**: `POST /api/token/`
- **refresh**: `POST /api/token/refresh/` with the token of that login, which both rotate
- **retry**: the same request again. SimpleJWT refuses it with 401: a client that lost the answer is signed out.
- **guarded**: a request with an access token. Latchkey reads the session with it, so that a logout counts at once;
  SimpleJWT reads the user only, and lets the token in until it expires.
- **guarded, first use**: the first one after a refresh, when Latchkey also notes that the answer has arrived
- **guarded, stateless**: without a look into the database, in both
"""


def page(measured: dict[str, tuple[Stack, Stack, dict[str, float]]]) -> str:
    packages = ("Django", "djangorestframework", "djangorestframework-simplejwt", "gunicorn")
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    parts = [INTRODUCTION, f"Measured with {versions}, on {_cores()}.\n"]
    parts += [_engine(engine, *figures) for engine, figures in measured.items()]
    parts.append(_logins({engine: medians for engine, (_, _, medians) in measured.items()}))
    return "\n".join(parts)


def _engine(engine: str, latchkey: Stack, simplejwt: Stack, medians: dict[str, float]) -> str:
    rounds = len(latchkey.rates["login"])
    rows = [(operation, *_cells(operation, latchkey, simplejwt)) for operation in OPERATIONS]
    return f"""\
## {engine}

Latchkey / SimpleJWT. Requests a second: the median of {rounds} round{"s" * (rounds != 1)} of {TOGETHER} requests by
{CLIENTS} clients at once. Milliseconds: the median of {rounds * ALONE} requests by one client. Statements: SQL, `BEGIN`
and `COMMIT` counted.

{_table(("", "requests/s", "ratio", "ms", "ratio", "statements"), rows)}

{latchkey.refreshes} refreshes left {latchkey.rows} rows in Latchkey's tables, and {simplejwt.rows} in SimpleJWT's.
"""


def _cells(operation: str, latchkey: Stack, simplejwt: Stack) -> Sequence[str]:
    rate, latency = median(latchkey.rates[operation]), median(latchkey.latencies[operation]) * 1000
    statements = latchkey.statements[operation]
    if operation not in simplejwt.rates:
        return f"{rate:.0f} / refused", "", f"{latency:.1f} / refused", "", f"{statements}"
    their_rate = median(simplejwt.rates[operation])
    their_latency = median(simplejwt.latencies[operation]) * 1000
    return (
        f"{rate:.0f} / {their_rate:.0f}",
        f"{rate / their_rate:.2f}",
        f"{latency:.1f} / {their_latency:.1f}",
        f"{latency / their_latency:.2f}",
        f"{statements} / {simplejwt.statements[operation]}",
    )


def _logins(medians: dict[str, dict[str, float]]) -> str:
    kinds = next(iter(medians.values()))
    rows = [(engine, *(f"{its[kind]:.1f}" for kind in kinds), f"{spread(its):.1%}") for engine, its in medians.items()]
    return f"""\
## What a refused login tells

The median of {TRIES} tries each, in milliseconds, over HTTP, with passwords hashed as in production. They should differ
by less than {TOLERANCE:.0%}. A busy machine moves them apart as well, so they are measured up to three times, and the
last is shown.

{_table(("", *kinds, "apart"), rows)}
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cores() -> str:
    cores = os.cpu_count() or 1
    return f"{cores} core{'s' * (cores != 1)}"
