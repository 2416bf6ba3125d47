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

`make bench` measures Latchkey next to SimpleJWT and writes this page. It takes less than three minutes.

The same bare project is served twice: once with the app `tokens`, once with SimpleJWT, with rotation and blacklist on
and otherwise default settings. Both have the same middleware, user model, guarded view, gunicorn (2 workers of 4
threads) and database settings. PostgreSQL waits for the disk at each commit; SQLite runs in WAL mode. The two take
turns, operation by operation.

Rate limits are off. Passwords are hashed with MD5, because a real hash costs the same in both and would hide the rest.
SimpleJWT signs with HMAC, its default; Latchkey signs access tokens with Ed25519. The client runs on the same machine
as server and database, so the ratios mean more than the numbers.

- **login**: `POST /api/token/`
- **refresh**: `POST /api/token/refresh/` with the token of that login, which both rotate
- **retry**: the same request again. SimpleJWT refuses it with 401, so a client that lost the response is signed out.
- **guarded**: a request with an access token. Latchkey also reads the session, so a logout takes effect immediately.
  SimpleJWT reads only the user, and accepts the token until it expires.
- **guarded, first use**: the first one after a refresh, when Latchkey also records that the response arrived
- **guarded, stateless**: without a database query, in both
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
{CLIENTS} simultaneous clients. Milliseconds: the median of {rounds * ALONE} requests by one client. Statements: SQL,
including `BEGIN` and `COMMIT`.

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
## Response times of refused logins

The median of {TRIES} attempts each, in milliseconds, over HTTP, with passwords hashed as in production. They should
differ by less than {TOLERANCE:.0%}. A busy machine also makes them differ, so they are measured up to three times;
the last result is shown.

{_table(("", *kinds, "difference"), rows)}
"""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cores() -> str:
    cores = os.cpu_count() or 1
    return f"{cores} core{'s' * (cores != 1)}"
