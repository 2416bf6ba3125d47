"""Measure what a table of many sessions costs, and write docs/scaling.md: `make bench-scale SESSIONS=10000000`."""

import json
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from time import monotonic
from typing import Any, NamedTuple

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.settings_server",
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(64),
}

from benchmarks.databases import Database, databases
from benchmarks.load import get, post, send
from benchmarks.processes import run
from benchmarks.reckoning import Costs, tables
from benchmarks.report import machine, table
from benchmarks.stacks import LATCHKEY, Stack, running

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
SESSIONS = int(os.environ.get("SESSIONS") or 10_000_000)
FEW = 1000
USERS_SHARE = 10
"""Sessions of a user."""

ASKED = 800
"""Sessions that are asked with, of each table; of a thousand, a hundred have expired."""

AT_ONCE = 100

LOAD_USERS = """
INSERT INTO auth_user (password, username, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT (SELECT password FROM auth_user LIMIT 1), 'many-' || n, false, '', '', '', false, true, now()
FROM generate_series(1, {users}) n
"""

# Signed in over the last week, in that order, as the keys of sessions are; one of ten has expired since.
LOAD_SESSIONS = """
WITH numbered AS (
    SELECT n, now() AT TIME ZONE 'UTC' - interval '7 days' * (1 - n / {sessions}.0) AS at
    FROM generate_series(1, {sessions}) n
)
INSERT INTO latchkey_session (
    id, user_id, secret, generation, predecessor, confirmed, created_at, rotated_at, expires_at, auth_hash, amr,
    revoked_reason, ip_address, user_agent
)
SELECT
    (
        lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || substr(md5(n::text), 1, 15)
    )::uuid,
    (SELECT max(id) FROM auth_user) - n % {users}, sha256(n::text::bytea), 0, 0, true, at, at,
    date_trunc('second', at + interval '7 days' * CASE WHEN n % 10 = 0 THEN 0 ELSE 2 END), '{auth_hash}', 'pwd', '',
    '192.0.2.1', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
FROM numbered
"""


class Flush(NamedTuple):
    deleted: int
    seconds: float
    before: float
    """The 99th percentile of a guarded request, in milliseconds."""

    during: float


def load(database: Database, sessions: int) -> None:
    """Add as many sessions by one statement, and let PostgreSQL count the table's changes from here on."""
    users = max(sessions // USERS_SHARE, 1)
    auth_hash = run(database.url, LATCHKEY.environment, "benchmarks.sample", "auth_hash").strip()
    database.execute(LOAD_USERS.format(users=users))
    database.execute(LOAD_SESSIONS.format(users=users, sessions=sessions, auth_hash=auth_hash))
    database.execute("VACUUM ANALYZE latchkey_session")
    database.execute("SELECT 1 FROM pg_stat_reset()")


def pairs(stack: Stack) -> list[list[str]]:
    """Return a refresh token and an access token of each of some sessions, chosen by chance."""
    printed = run(stack.database.url, LATCHKEY.environment, "benchmarks.sample", "tokens", str(ASKED))
    tokens: list[list[str]] = json.loads(printed)
    return tokens


def ask(stacks: Sequence[Stack]) -> tuple[list[int], list[list[str]]]:
    """Refresh and ask with sessions of each table, in turns; return the WAL bytes of each and the new access tokens."""
    tokens = [pairs(stack) for stack in stacks]
    wal, accesses = [0 for _ in stacks], [[] for _ in stacks]  # type: list[int], list[list[str]]
    for start in range(0, ASKED, AT_ONCE):
        for index, stack in enumerate(stacks):
            requests = [
                post("/api/token/refresh/", refresh=refresh) for refresh, _ in tokens[index][start : start + AT_ONCE]
            ]
            before = _wal(stack.database)
            answers = stack.measure("refresh", requests)
            wal[index] += _wal(stack.database) - before
            accesses[index] += [answer.body["access"] for answer in answers]
    for operation in ("guarded, first use", "guarded"):
        for start in range(0, ASKED, AT_ONCE):
            for index, stack in enumerate(stacks):
                stack.measure(operation, [get("/guarded", token) for token in accesses[index][start : start + AT_ONCE]])
    return wal, accesses


def flush(stack: Stack, accesses: Sequence[str]) -> Flush:
    """Delete what has expired while others ask."""
    requests = [get("/guarded", token) for token in accesses]

    def percentile() -> float:
        return 1000 * quantiles([answer.seconds for answer in send(stack.port, requests, 2).answers], n=100)[98]

    before, count = percentile(), stack.database.rows(["latchkey_session"])
    during: list[float] = []
    began = monotonic()
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(run, stack.database.url, LATCHKEY.environment, "django", "flushexpiredtokens")
        while not flushing.done() or not during:
            during.append(percentile())
        flushing.result()
    deleted = count - stack.database.rows(["latchkey_session"])
    return Flush(deleted, monotonic() - began, before, max(during))


def _wal(database: Database) -> int:
    return database.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")


def page(few: Stack, many: Stack, wal: Sequence[int], bytes_: dict[str, float], hot: float, flushed: Flush) -> str:
    rows = []
    for operation in ("refresh", "guarded, first use", "guarded"):
        costs = [[cost.all for cost in stack.costs[operation]] for stack in (few, many)]
        ratios = [large / small for small, large in zip(*costs, strict=True)]
        rows.append(
            (
                operation,
                *(f"{median(each):.2f}" for each in costs),
                f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
            )
        )
    return f"""\
# Scaling

`make bench-scale` measures this and writes the page. `SESSIONS=200000` makes it shorter.

Measured on {datetime.now(UTC):%Y-%m-%d} with {SESSIONS:,} sessions of {max(SESSIONS // USERS_SHARE, 1):,} users in
PostgreSQL, on {machine()}. The bare project of [the benchmarks](benchmarks.md) serves them.

## What many sessions cost

CPU milliseconds per request, workers and database together, with {FEW:,} sessions in the table and with {SESSIONS:,}:

{table(("", f"{FEW:,} sessions", f"{SESSIONS:,} sessions", "ratio"), rows)}

- **Disk:** {bytes_["table"]:.0f} bytes a session in the table, {bytes_["indexes"]:.0f} in its indexes.
- **WAL:** {wal[1] / ASKED:,.0f} bytes a refresh. The first change of a page after a checkpoint writes the whole page.
- **In place:** {hot:.1%} of the updates. They leave the indexes alone.
- **Flush:** `flushexpiredtokens` deleted {flushed.deleted:,} sessions in {flushed.seconds:.0f} seconds. The 99th
  percentile of a guarded request was {flushed.before:.1f} ms before it and {flushed.during:.1f} ms during it.

{tables(Costs(_costs(many), bytes_["table"] + bytes_["indexes"], wal[1] / ASKED))}"""


def _costs(stack: Stack) -> dict[str, Any]:
    return {
        operation: [median(part) for part in zip(*costs, strict=True)]  # workers, database
        for operation, costs in stack.costs.items()
    }


def main() -> None:
    with (
        databases("PostgreSQL", "few", "many") as (small, large),
        running(LATCHKEY, small) as few,
        running(LATCHKEY, large) as many,
    ):
        for database, sessions in ((small, FEW), (large, SESSIONS)):
            began = monotonic()
            load(database, sessions)
            print(f"Loaded {sessions} sessions in {monotonic() - began:.0f} seconds.", flush=True)
        sizes = {
            "table": large.execute("SELECT pg_table_size('latchkey_session')") / SESSIONS,
            "indexes": large.execute("SELECT pg_indexes_size('latchkey_session')") / SESSIONS,
        }
        wal, accesses = ask([few, many])
        large.execute("SELECT 1 FROM pg_stat_force_next_flush()")
        changed, in_place = (
            large.execute(f"SELECT {column} FROM pg_stat_user_tables WHERE relname = 'latchkey_session'")
            for column in ("n_tup_upd", "n_tup_hot_upd")
        )
        flushed = flush(many, accesses[1])
        PAGE.write_text(page(few, many, wal, sizes, in_place / changed, flushed))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
