"""Measures settings of the sessions' table by rotations and renewals in copies of it, one for each choice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from benchmarks.databases import Database

FILLFACTORS = (100, 90, 80, 70)
THRESHOLDS = (0.2, 0.1, 0.05, 0.02)
"""The share of dead rows at which autovacuum starts; the first is PostgreSQL's default."""

ROWS = 20_000
ROTATIONS = 40_000
IN_A_BACKUP = ROWS // 10
RENEWED = ROWS // 50
"""The number of sessions that begin, and that are deleted, between two runs of autovacuum."""

COPY = """
DROP TABLE IF EXISTS copied;
CREATE TABLE copied (LIKE latchkey_session INCLUDING ALL) WITH (fillfactor = {fillfactor}, autovacuum_enabled = false);
INSERT INTO copied SELECT * FROM latchkey_session ORDER BY id LIMIT {rows};
VACUUM ANALYZE copied
"""

# The two updates of a rotation, each in a transaction of its own, as requests send them.
ROTATE = """
DO $$
DECLARE
    ids uuid[] := ARRAY(SELECT id FROM copied);
    chosen uuid;
BEGIN
    FOR turn IN 1..{rotations} LOOP
        chosen := ids[1 + floor(random() * {rows})];
        UPDATE copied SET generation = generation + 1, predecessor = generation, confirmed = false, rotated_at = now(),
            expires_at = expires_at + interval '1 second' WHERE id = chosen;
        COMMIT;
        UPDATE copied SET confirmed = true WHERE id = chosen;
        COMMIT;
    END LOOP;
END $$
"""

RENEW = """
DELETE FROM copied WHERE id IN (SELECT id FROM copied TABLESAMPLE BERNOULLI (20) ORDER BY random() LIMIT {rows});
INSERT INTO copied SELECT * FROM latchkey_session all_of_them
WHERE NOT EXISTS (SELECT FROM copied WHERE copied.id = all_of_them.id) LIMIT {rows}
"""


class Filled(NamedTuple):
    before: float
    """Bytes a session in the table."""

    after: float
    in_place: float
    """The share of the updates."""


def fill(database: Database, fillfactor: int, *, held: bool) -> Filled:
    """Rotate in a table with that fillfactor; on request less often, but while a backup holds a snapshot."""
    _execute(database, COPY.format(fillfactor=fillfactor, rows=ROWS))
    before = _size(database)
    rotations = IN_A_BACKUP if held else ROTATIONS
    with _snapshot(database, held):
        _execute(database, "SET synchronous_commit = off", ROTATE.format(rotations=rotations, rows=ROWS))
    return Filled(before, _size(database), in_place(database, "copied"))


def renew(database: Database, threshold: float) -> tuple[float, int]:
    """Replace twice as many sessions as there are; return the bytes per session, and how often autovacuum ran."""
    _execute(database, COPY.format(fillfactor=90, rows=ROWS))
    dead = vacuums = 0
    for _ in range(2 * ROWS // RENEWED):
        _execute(database, RENEW.format(rows=RENEWED))
        dead += RENEWED
        if dead >= threshold * ROWS:
            _execute(database, "VACUUM copied")
            dead, vacuums = 0, vacuums + 1
    return _size(database), vacuums


def in_place(database: Database, table: str) -> float:
    """Return the share of updates that did not touch the indexes."""
    database.execute("SELECT 1 FROM pg_stat_force_next_flush()")
    changed, hot = (
        database.execute(f"SELECT {column} FROM pg_stat_user_tables WHERE relname = '{table}'")
        for column in ("n_tup_upd", "n_tup_hot_upd")
    )
    return hot / changed


def _size(database: Database) -> float:
    return database.execute("SELECT pg_table_size('copied')") / ROWS


def _execute(database: Database, *statements: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in statements:
            for part in [statement] if "$$" in statement else statement.split(";"):
                connection.execute(part.encode())


@contextmanager
def _snapshot(database: Database, held: bool) -> Iterator[None]:
    with psycopg.connect(database.url) as connection:
        if held:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT FROM latchkey_session LIMIT 1")
        yield
