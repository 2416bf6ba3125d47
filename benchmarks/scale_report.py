"""Writes docs/scaling.md from the measurements."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from benchmarks import growth, pooled, storage
from benchmarks.reckoning import Costs, tables
from benchmarks.report import machine, table
from benchmarks.stacks import Stack
from benchmarks.wal import Wal

OPERATIONS = ("refresh", "guarded, first use", "guarded")


class Flush(NamedTuple):
    deleted: int
    seconds: float
    before: float
    """The 99th percentile of a guarded request, in milliseconds."""

    during: float


class Scale(NamedTuple):
    """The measurements; of the largest table, unless a field says otherwise."""

    sizes: Sequence[int]
    stacks: Sequence[Stack]
    """One for each size."""

    table: float
    """Bytes a session."""

    indexes: float
    wal: Mapping[str, Sequence[Wal]]
    """Of all requests of an operation, for each size."""

    asked: int
    """How many these were."""

    in_place: float
    filled: Mapping[int, Sequence[storage.Filled]]
    """By fillfactor: alone, and while a backup runs."""

    renewed: Mapping[float, tuple[float, int]]
    """By the threshold of autovacuum: bytes a session, and how often it came."""

    moments: Sequence[growth.Moment]
    flush: Flush
    out: Sequence[pooled.Pooled]
    statements: Mapping[str, Sequence[str]]


def costs(scale: Scale) -> dict[str, list[float]]:
    """Return the milliseconds by operation, one for each size: what the plot shows."""
    return {
        operation: [median(cost.all for cost in stack.costs[operation]) for stack in scale.stacks]
        for operation in OPERATIONS
    }


def page(scale: Scale) -> str:
    many = scale.sizes[-1]
    few, first = (scale.wal[operation][0] for operation in OPERATIONS[:2])
    by_operation = {
        operation: [median(part) for part in zip(*scale.stacks[-1].costs[operation], strict=True)]
        for operation in OPERATIONS
    }
    full, confirmed = (sum(scale.wal[operation][-1]) / scale.asked for operation in OPERATIONS[:2])
    flush = scale.flush
    return f"""\
# Scaling

![CPU time per request, against the number of sessions](images/scaling-light.svg)

`make bench-scale` measures this and writes the page. These variables change it:

- `SESSIONS=200000 make bench-scale` loads fewer than ten million sessions.
- `SOAK=5 make bench-scale` refreshes for 5 minutes instead of 30 under [long use](#long-use).

Measured on {datetime.now(UTC):%Y-%m-%d} with {many:,} sessions of {many // 10:,} users in
PostgreSQL, on {machine()}. The bare project of [the benchmarks](benchmarks.md) serves them.

## What many sessions cost

CPU milliseconds per request, workers and database together, by the number of sessions in the table. The ratio compares
the last column with the first; in brackets are the least and the greatest of eight turns.

{table(("", *(f"{size:,}" for size in scale.sizes), "ratio"), _cost_rows(scale))}

- **Disk:** {scale.table:.0f} bytes a session in the table, {scale.indexes:.0f} in its indexes.
- **WAL:** {few.records / scale.asked:,.0f} bytes a refresh, and {first.records / scale.asked:,.0f} for the first \
request with its access token.
  These are the records of the updates, of the commits and of the cleaning of pages. A refresh from another address or
  browser than the last one writes about 90 bytes more. The first change of a page after a checkpoint writes the whole
  page too, and among many sessions that is nearly every refresh: {full:,.0f} bytes, right after a checkpoint.
- **In place:** {scale.in_place:.1%} of the updates. They leave the indexes alone.
- **Flush:** `flushexpiredtokens` deleted {flush.deleted:,} sessions in {flush.seconds:.0f} seconds. The 99th percentile
  of a guarded request was {flush.before:.1f} ms before it and {flush.during:.1f} ms during it.

{_long_use(scale.moments)}
{_settings(scale)}
{_out(scale.out)}
{_statements(scale.statements)}
{tables(Costs(by_operation, scale.table + scale.indexes, full + confirmed))}"""


def _cost_rows(scale: Scale) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for operation, medians in costs(scale).items():
        few, many = ([cost.all for cost in scale.stacks[index].costs[operation]] for index in (0, -1))
        ratios = [large / small for small, large in zip(few, many, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        rows.append((operation, *(f"{each:.2f}" for each in medians), spread))
    return rows


def _long_use(moments: Sequence[growth.Moment]) -> str:
    step = max(len(moments) // 8, 1)
    rows = [
        (
            f"{each.minute:.0f}",
            f"{each.refreshes:,}",
            f"{each.table / 1e6:,.1f}",
            f"{each.dead:,}",
            f"{each.memory / 1e6:,.1f}",
        )
        for each in (*moments[:-1:step], moments[-1])
    ]
    return f"""\
## Long use

{growth.POOL:,} sessions of this table were refreshed again and again, at most once a minute each:

{table(("minutes", "refreshes", "table and indexes, MB", "dead rows", "memory of the workers, MB"), rows)}
"""


def _settings(scale: Scale) -> str:
    filled = [
        (
            f"{factor}{' (default)' * (factor == 100)}",
            f"{alone.before:.0f}",
            f"{alone.after:.0f}",
            f"{alone.in_place:.1%}",
            f"{held.after:.0f}",
            f"{held.in_place:.1%}",
        )
        for factor, (alone, held) in scale.filled.items()
    ]
    renewed = [
        (f"{threshold}{' (default)' * (threshold == 0.2)}", f"{size:.0f}", f"{vacuums}")
        for threshold, (size, vacuums) in scale.renewed.items()
    ]
    head = ("fillfactor", "bytes", "after rotations", "in place", "bytes after a backup", "in place")
    return f"""\
## Settings of the table

The migration sets `fillfactor = 90` and `autovacuum_vacuum_scale_factor = 0.05` for the table of sessions. These are
measured in copies of {storage.ROWS:,} sessions, in bytes of the table a session.

A rotation updates its row in place if the page has room. These are {storage.ROTATIONS:,} rotations, and \
{storage.IN_A_BACKUP:,} while a
backup holds a snapshot, so that no page can be cleaned:

{table(head, filled)}

So 90 leaves enough room for every rotation, and takes less space than 80 or 70. More room would keep more updates in
place during a backup, but the table would always be larger.

New sessions reuse the space of deleted ones after autovacuum has run. It runs when this share of the rows is dead.
After each session was replaced twice:

{table(("autovacuum_vacuum_scale_factor", "bytes", "times it ran"), renewed)}
"""


def _out(out: Sequence[pooled.Pooled]) -> str:
    if not out:
        return """\
## More application servers

This section was left out: PgBouncer is not installed where the page was made.
"""
    rows = [
        (
            f"{each.servers}{', directly' * (each.servers == 1)}",
            f"{each.servers * 8}",
            f"{each.connections}",
            " + ".join(f"{part:.2f}" for part in each.refresh),
            " + ".join(f"{part:.2f}" for part in each.guarded),
        )
        for each in out
    ]
    head = ("servers", "threads", "connections", "refresh", "guarded, first use")
    return f"""\
## More application servers

The servers share one PostgreSQL through PgBouncer in transaction mode, which has {pooled.CONNECTIONS} connections. Each
session is refreshed at one server, and its new access token is used at another. CPU milliseconds per request: workers +
PgBouncer + database. All of them share this machine's cores, so rates would say nothing.

{table(head, rows)}
"""


def _statements(statements: Mapping[str, Sequence[str]]) -> str:
    blocks = "\n".join(f"-- {name}\n" + "".join(f"{each};\n" for each in sent) for name, sent in statements.items())
    return f"""\
## Statements and their shard key

Each statement of a refresh and of a guarded request names one session by its primary key. A refresh also reads
the names of the user's groups, in a subquery that is left out here.

```sql
{blocks}```
"""
