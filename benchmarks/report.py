"""Writes docs/benchmarks.md from the measurements."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from benchmarks.load import CLIENTS
from benchmarks.logins import TOLERANCE, TRIES, spread
from benchmarks.peers import NAMES, PeerStack
from benchmarks.plot import Bars
from benchmarks.reading import READS, ROUNDS
from benchmarks.stacks import ALONE, EACH, HASHED, LATCHKEY, LIMITED, SHIPPED, SIMPLEJWT, THEIRS_HASHED, TOGETHER, Stack
from tests.proof.peers.packages import label

OPERATIONS = ("login", "refresh", "retry", "guarded", "guarded, first use", "guarded, stateless", "no guard", "logout")
SHARED = ("login", "refresh", "guarded", "logout")
"""The operations that other packages have too."""

COLUMNS = (LATCHKEY, SHIPPED, SIMPLEJWT)

INTRODUCTION = """\
# Benchmarks

![CPU time per request](images/benchmarks-light.svg)

`make bench` measures Latchkey next to SimpleJWT and five other packages, and writes this page. It takes less than
fifteen minutes. These variables change it:

- `ROUNDS=3 make bench` measures three rounds instead of forty. More rounds give steadier figures.
- `BUDGET=600 make bench` takes 600 seconds for the rounds on each database instead of 360. A slow machine stops early.

One bare project is served twice: with the app `tokens`, and with SimpleJWT, its rotation and its blacklist switched on.
Both use the same middleware, the stock user, the same guarded view, gunicorn with 2 workers of 4 threads, and the same
database settings. A third server is the project as shipped, with all of its middleware; its guarded request is
`GET /api/me/`. The servers take turns, operation by operation. PostgreSQL waits for the disk at each commit, and SQLite
runs in WAL mode.

Unless a row says otherwise, limits on guessing are off and passwords use MD5, because a real hash would hide everything
else. SimpleJWT signs with HMAC, its default; Latchkey signs access tokens with Ed25519. On Linux, the servers and the
database run on one core, and the client on the others. They share the machine, so compare ratios, not absolute figures.
CPU time is the steadier figure.

- **login**: `POST /api/token/`
- **refresh**: `POST /api/token/refresh/` with the token from that login, which both rotate
- **retry**: the same request again. SimpleJWT responds 401, so a client that lost the response is signed out.
- **guarded**: a request with an access token. Latchkey reads the session, so a logout takes effect immediately.
  SimpleJWT reads only the user, and accepts the token until it expires.
- **guarded, first use**: the first request after a refresh, in which Latchkey also stores that the response arrived
- **guarded, stateless**: without a database query, in both
- **no guard**: a view of Django REST Framework that asks for no token, as the floor of the guarded rows
- **logout**: `POST /api/token/blacklist/`
- **bound / unbound**: the same requests with a session [bound to a key](dpop.md), and a proof in each request, in turn
  with requests of an unbound session, eight times a round
"""


class Measured(NamedTuple):
    """What was measured on one engine."""

    stacks: dict[str, Stack]
    refused_logins: dict[str, float]
    reads: dict[str, float]


def page(measured: Mapping[str, Measured], sessions: int) -> str:
    packages = ("Django", "djangorestframework", "djangorestframework-simplejwt", "gunicorn", "psycopg")
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    parts = [INTRODUCTION, f"Measured on {day} with {versions}, on {machine()}.\n"]
    parts += [_engine(engine, its.stacks, sessions) for engine, its in measured.items()]
    parts.append(_others(measured["PostgreSQL"].stacks))
    parts.append(_reads({engine: its.reads for engine, its in measured.items()}))
    parts.append(_logins({engine: its.refused_logins for engine, its in measured.items()}))
    return "\n".join(parts)


def bars(stacks: Mapping[str, Stack]) -> Bars:
    """Return the plot's values."""
    return {
        operation: {
            kind.name: median(cost.all for cost in stacks[kind.name].costs[operation])
            for kind in COLUMNS
            if operation in stacks[kind.name].costs
        }
        for operation in ("login", "refresh", "guarded", "guarded, stateless", "logout")
    }


def _engine(engine: str, stacks: Mapping[str, Stack], sessions: int) -> str:
    latchkey, shipped, simplejwt = (stacks[kind.name] for kind in COLUMNS)
    rounds = len(latchkey.rates["login"])
    costs = [_cost_row(operation, operation, latchkey, shipped, simplejwt) for operation in OPERATIONS]
    costs += [
        ("login, limits on", _cost(stacks[LIMITED.name], "login"), "", "", ""),
        _pair("login, real hash", stacks[HASHED.name], stacks[THEIRS_HASHED.name], "login", "login"),
        _pair("refresh, bound / unbound", latchkey, latchkey, "refresh, bound", "refresh, unbound"),
        _pair("guarded, bound / unbound", latchkey, latchkey, "guarded, bound", "guarded, unbound"),
    ]
    if "guarded, many sessions" in latchkey.costs:
        for again in ("", ", again"):
            operation = f"guarded, many sessions{again}"
            costs.append(_pair(f"guarded, {sessions:,} sessions{again}", latchkey, simplejwt, operation, operation))
    rows = [(operation, *_cells(operation, latchkey, simplejwt)) for operation in OPERATIONS]
    return f"""\
## {engine}

CPU milliseconds per request: workers + database. The median of {rounds} round{"s" * (rounds != 1)} of
{EACH} requests ({ALONE} with a real hash). The ratio is Latchkey to SimpleJWT, or what the row says; in
brackets are the quartiles of the rounds.

{table(("", "Latchkey", "as shipped", "SimpleJWT", "ratio"), costs)}

Requests per second: the median of these rounds, {TOGETHER} requests by {CLIENTS} concurrent clients. Milliseconds: the
median of {rounds * ALONE} requests by one client. Statements: SQL, including `BEGIN` and `COMMIT`;
several in one message count as one.

{table(("", "requests/s", "ratio", "ms", "ratio", "statements"), rows)}

{latchkey.refreshes} refreshes left {latchkey.rows} rows in Latchkey's tables, and {simplejwt.rows} in SimpleJWT's.
"""


def _others(stacks: Mapping[str, Stack]) -> str:
    latchkey, found = stacks[LATCHKEY.name], [stack for stack in stacks.values() if isinstance(stack, PeerStack)]
    costs = [("Latchkey", *(_cost(latchkey, each) for each in SHARED), "yes")]
    costs += [
        (label(stack.kind.name), *(_cost(stack, each) for each in SHARED), "yes" if stack.ends_at_once else "no")
        for stack in found
    ]
    ratios = [(label(stack.kind.name), *(_ratio(latchkey, stack, each, each) for each in SHARED)) for stack in found]
    missing = [
        f"\n- {label(name)} could not be installed, so it is missing here." for name in NAMES if name not in stacks
    ]
    return f"""\
## Other packages

The same requests to other packages on PostgreSQL, in the same rounds as above. Each package has its own environment and
serves the same bare project, with rotation on, and with reuse protection and immediate revocation where the package has
them (`tests/proof/peers/packages.py`). django-rest-knox has no refresh tokens. CPU milliseconds per request:

{table(("", *SHARED, "access ends at logout"), costs)}

The ratio is Latchkey to the package; in brackets are the quartiles of the rounds.

{table(("", *SHARED), ratios)}
{"".join(missing)}
"""


def _cost(stack: Stack, operation: str) -> str:
    if operation not in stack.costs:
        return ""
    workers, database = (median(part) for part in zip(*stack.costs[operation], strict=True))
    return f"{workers:.2f} + {database:.2f}" if database else f"{workers:.2f}"


def _cost_row(name: str, operation: str, latchkey: Stack, shipped: Stack, simplejwt: Stack) -> Sequence[str]:
    _, ours, theirs, ratio = _pair(name, latchkey, simplejwt, operation, operation, between=())
    return name, ours, _cost(shipped, operation), theirs, ratio


def _pair(
    name: str, one: Stack, other: Stack, operation: str, against: str, between: Sequence[str] = ("",)
) -> Sequence[str]:
    """Return a row of the costs of one operation beside another's, and their ratio with its spread."""
    return name, _cost(one, operation), *between, _cost(other, against), _ratio(one, other, operation, against)


def _ratio(one: Stack, other: Stack, operation: str, against: str) -> str:
    ratios = [
        ours.all / theirs.all for ours, theirs in zip(one.costs[operation], other.costs.get(against, ()), strict=False)
    ]
    if not ratios:
        return ""
    first, _, third = quantiles(ratios * 2, n=4, method="inclusive")  # twice, since it refuses a single one
    return f"{median(ratios):.2f} ({first:.2f}-{third:.2f})"


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


def _reads(medians: Mapping[str, Mapping[str, float]]) -> str:
    ways = next(iter(medians.values()))
    rows = [(engine, *(f"{its[way]:.2f}" for way in ways)) for engine, its in medians.items()]
    return f"""\
## What a compiled SELECT saves

Each guarded request and each refresh reads a session and its user. Django compiles such a query each time;
`tokens/domain/reading.py` compiles it once for each connection. These are the CPU milliseconds of one read in the
server's process, which on SQLite includes the database. The median of {ROUNDS} rounds of {READS} reads.

{table(("", *ways), rows)}
"""


def _logins(medians: dict[str, dict[str, float]]) -> str:
    kinds = next(iter(medians.values()))
    rows = [(engine, *(f"{its[kind]:.1f}" for kind in kinds), f"{spread(its):.1%}") for engine, its in medians.items()]
    return f"""\
## What the time of a refused login reveals

The median of {TRIES} tries each, in milliseconds, over HTTP, with passwords hashed as in production. They should differ
by less than {TOLERANCE:.0%}. Other load on the machine also makes them differ, so they are measured up to three times,
and the last measurement is shown.

{table(("", *kinds, "apart"), rows)}
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    cores = os.cpu_count() or 1
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{cores} core{'s' * (cores != 1)} of {model}"
