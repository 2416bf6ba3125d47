"""Measure the cost of a table with many sessions, and write docs/scaling.md: `make bench-scale SESSIONS=10000000`."""

import json
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from time import monotonic

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.settings_server",
    "ENV_FILE": os.devnull,
    "SECRET_KEY": secrets.token_urlsafe(64),
}

from benchmarks import growth, pooled, storage
from benchmarks.databases import Database, databases
from benchmarks.load import AGENT, get, post, send
from benchmarks.plot import IMAGES, lines
from benchmarks.processes import run
from benchmarks.scale_report import Flush, Scale, costs, page
from benchmarks.stacks import LATCHKEY, Stack, running
from benchmarks.wal import Wal, position, written
from tests.tools import PGBOUNCER

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
SESSIONS = int(os.environ.get("SESSIONS") or 10_000_000)
SIZES = [size for size in (1000, 10_000, 100_000, 1_000_000) if size < SESSIONS] + [SESSIONS]
SOAK = float(os.environ.get("SOAK") or 30)
"""Minutes."""

USERS_SHARE = 10
"""Sessions of a user."""

ASKED = 800
"""The sessions of each table whose tokens are sent; of a thousand, a hundred have expired."""

AT_ONCE = 100

LOAD_USERS = """
INSERT INTO auth_user (password, username, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT (SELECT password FROM auth_user LIMIT 1), 'many-' || n, false, '', '', '', false, true, now()
FROM generate_series(1, {users}) n
"""

# Signed in over the last week, in that order, as the keys of sessions are; one of ten has expired since. A replica
# checks no foreign keys, and that would take a third of the time.
LOAD_SESSIONS = """
SET session_replication_role = replica;
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
    '127.0.0.1', '{agent}'
FROM numbered
"""


def load(database: Database, sessions: int) -> None:
    """Add that many sessions in one statement, and make PostgreSQL count the table's changes from now on."""
    users, began = max(sessions // USERS_SHARE, 1), monotonic()
    auth_hash = run(database.url, LATCHKEY.environment, "benchmarks.sample", "auth_hash").strip()
    database.execute(LOAD_USERS.format(users=users))
    database.execute(LOAD_SESSIONS.format(users=users, sessions=sessions, auth_hash=auth_hash, agent=AGENT))
    database.execute("VACUUM ANALYZE latchkey_session")
    database.execute("SELECT 1 FROM pg_stat_reset()")
    print(f"Loaded {sessions:,} sessions in {monotonic() - began:.0f} seconds.", flush=True)


def pairs(database: Database, number: int) -> list[list[str]]:
    """Return a refresh token and an access token of each of some sessions, chosen by chance."""
    tokens: list[list[str]] = json.loads(
        run(database.url, LATCHKEY.environment, "benchmarks.sample", "tokens", str(number))
    )
    return tokens


def ask(stacks: Sequence[Stack]) -> tuple[dict[str, list[Wal]], list[str]]:
    """Refresh and call the API with sessions of each table, in turns.

    Return what PostgreSQL wrote for each operation on each table, and the new access tokens of the last one.
    """
    waiting = [
        [post("/api/token/refresh/", refresh=refresh) for refresh, _ in pairs(stack.database, ASKED)]
        for stack in stacks
    ]
    wal, accesses = {}, []  # type: dict[str, list[Wal]], list[str]
    stacks[0].database.execute("CHECKPOINT")  # of the whole server
    for operation in ("refresh", "guarded, first use", "guarded"):
        wal[operation] = [Wal(0, 0) for _ in stacks]
        issued: list[list[str]] = [[] for _ in stacks]
        for start in range(0, ASKED, AT_ONCE):
            for index, stack in enumerate(stacks):
                before = position(stack.database)
                answers = stack.measure(operation, waiting[index][start : start + AT_ONCE])
                if operation != "guarded":  # which writes nothing of its own
                    wal[operation][index] += written(stack.database, before)
                issued[index] += [answer.body["access"] for answer in answers if operation == "refresh"]
        if operation == "refresh":
            waiting, accesses = [[get("/guarded", token) for token in tokens] for tokens in issued], issued[-1]
    return wal, accesses


def flush(stack: Stack, accesses: Sequence[str]) -> Flush:
    """Delete expired sessions while clients send requests."""
    requests, seconds = [get("/guarded", token) for token in accesses], []  # type: list[bytes], list[float]

    def percentile() -> float:
        return 1000 * quantiles(seconds, n=100)[98]

    def go_on() -> None:
        seconds.extend(answer.seconds for answer in send(stack.port, requests, 2).answers)

    for _ in range(3):
        go_on()
    before, count = percentile(), stack.database.rows(["latchkey_session"])
    seconds.clear()
    began = monotonic()
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(run, stack.database.url, LATCHKEY.environment, "django", "flushexpiredtokens")
        while not flushing.done() or not seconds:
            go_on()
        flushing.result()
    taken = monotonic() - began
    return Flush(count - stack.database.rows(["latchkey_session"]), taken, before, percentile())


def scale_out(database: Database) -> list[pooled.Pooled]:
    """Return the cost of one server, then of several behind PgBouncer; empty if it is not installed."""
    if not PGBOUNCER:
        return []
    load(database, max(SIZES[0] * 10, ASKED * 5))
    return [
        pooled.measure(database, servers, [refresh for refresh, _ in pairs(database, ASKED)], pooler=servers > 1)
        for servers in (1, *pooled.SERVERS)
    ]


def measure() -> Scale:
    names = [f"sessions{size}" for size in SIZES]
    with ExitStack() as servers, databases("PostgreSQL", *names, "pooled") as (*those, another):
        stacks = [servers.enter_context(running(LATCHKEY, database)) for database in (*those, another)]
        *stacks, _ = stacks
        for stack, size in zip(stacks, SIZES, strict=True):
            load(stack.database, size)
        many = stacks[-1]
        sizes = (many.database.execute(f"SELECT pg_{part}_size('latchkey_session')") for part in ("table", "indexes"))
        table, indexes = (size / SESSIONS for size in sizes)
        print("Asking ...", flush=True)
        wal, accesses = ask(stacks)
        in_place = storage.in_place(many.database, "latchkey_session")
        statements = json.loads(run(many.database.url, LATCHKEY.environment, "benchmarks.sample", "statements"))
        print("Trying settings of the table ...", flush=True)
        filled = {
            factor: [storage.fill(many.database, factor, held=held) for held in (False, True)]
            for factor in storage.FILLFACTORS
        }
        renewed = {threshold: storage.renew(many.database, threshold) for threshold in storage.THRESHOLDS}
        print(f"Refreshing for {SOAK:g} minutes ...", flush=True)
        refreshes = [refresh for refresh, _ in pairs(many.database, growth.POOL)]
        moments = growth.soak(many, refreshes, SOAK)
        print("Flushing ...", flush=True)
        flushed = flush(many, accesses)
        print("Scaling out ...", flush=True)
        out = scale_out(another)
        return Scale(
            SIZES, stacks, table, indexes, wal, ASKED, in_place, filled, renewed, moments, flushed, out, statements
        )


def main() -> None:
    scale = measure()
    PAGE.write_text(page(scale))
    for scheme in ("light", "dark"):
        (IMAGES / f"scaling-{scheme}.svg").write_text(lines(SIZES, costs(scale), scheme))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
