"""Computes what a number of users needs from the measured cost of one request."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SESSIONS = 2
"""Rows per user: active sessions, and ended ones that are not deleted yet."""

ACTIVE = 0.05
"""The share of the users who are active at the same time at the peak."""

ASKS = 1 / 20
"""Guarded requests a second of each of them."""

REFRESHES = 1 / 900
"""Refreshes a second of each of them: an access token lives for 15 minutes."""

LOAD = 0.5
"""The load of a core at the peak."""

HELD = 2
"""How many seconds a connection is held for each CPU second of the database."""

USERS = (1_000_000, 10_000_000, 100_000_000)


class Costs(NamedTuple):
    milliseconds: Mapping[str, Sequence[float]]
    """CPU time of workers and of the database, by operation."""

    bytes: float
    """Of a session, in the table and its indexes."""

    wal: float
    """Bytes of a refresh and of the first use of its access token, whole pages included."""


def needs(users: int, costs: Costs) -> list[str]:
    """Return a row of the table for that many users."""
    there = users * ACTIVE
    rates = {"guarded": there * ASKS, "refresh": there * REFRESHES, "guarded, first use": there * REFRESHES}
    workers, database = (
        sum(rate * costs.milliseconds[operation][part] / 1000 for operation, rate in rates.items()) for part in (0, 1)
    )
    return [
        f"{users:,}",
        f"{rates['guarded']:,.0f}",
        f"{rates['refresh']:,.0f}",
        f"{workers / LOAD:,.0f}",
        f"{database / LOAD:,.1f}",
        f"{max(database * HELD, 1):,.0f}",
        f"{users * SESSIONS * costs.bytes / 1e9:,.1f} GB",
        f"{rates['refresh'] * costs.wal / 1e6:,.2f} MB/s",
    ]


def tables(costs: Costs) -> str:
    head = ["users", "guarded/s", "refreshes/s", "cores", "database cores", "busy connections", "disk", "WAL"]
    lines = [head, ["---:"] * len(head), *(needs(users, costs) for users in USERS)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"""\
## What users need

`benchmarks/reckoning.py` computes this table from the costs above. It assumes:

- {SESSIONS} sessions per user
- {ACTIVE:.0%} of the users active at the same time
- a guarded request every {1 / ASKS:.0f} seconds, and a refresh every {1 / REFRESHES:.0f}, from each of them
- cores that are {LOAD:.0%} busy at peak

Change the constants at its top to match your project. Your own views cost more than the empty one that was measured.

{rows}

- **Workers** are the first limit. They share nothing, so add servers.
- **Connections** are next. Each thread of each worker keeps one, far more than are busy at a time. PgBouncer in
  transaction mode shares them: see [deployment](deployment.md#postgresql).
- **The database's cores** are last. `DATABASE_PREPARED_STATEMENTS` saves more than half of its CPU time where no pooler
  is in between. The stateless guard needs no database at all: see [other services](other-services.md).
- **More than one database server.** Every statement of a refresh and of a guarded request names one session by its
  primary key. The `SELECT`, which joins it with its user, names the user too; the `UPDATE` doesn't. On Citus,
  distribute both tables by the user, and send the user with the `UPDATE`; on a PostgreSQL-compatible cluster, nothing
  changes. Neither has been measured here.
"""
