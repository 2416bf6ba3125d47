"""The databases of a run: as many as needed for each engine, in a temporary folder."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from tests.plugin import postgresql


@dataclass(frozen=True)
class Database:
    url: str
    pid: int = 0
    """The server's process; 0 where there is none."""

    def execute(self, statement: str) -> int:
        """Run one statement on its own connection; return the selected number, or the number of changed rows."""
        if self.url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                return _number(connection.execute(statement))
        with psycopg.connect(self.url, autocommit=True) as connection:
            return _number(connection.execute(statement.encode()))

    def rows(self, tables: list[str]) -> int:
        return sum(self.execute(f"SELECT count(*) FROM {table}") for table in tables)


@contextmanager
def databases(engine: str, *names: str) -> Iterator[list[Database]]:
    with TemporaryDirectory(prefix="latchkey-bench-") as path:
        folder = Path(path)
        if engine == "SQLite":
            yield [Database(f"sqlite:///{folder}/{name}.sqlite3") for name in names]
            return
        with postgresql(folder, durable=True) as url:
            pid = int(Path(folder, "data", "postmaster.pid").read_text().split()[0])
            for name in names:
                Database(url).execute(f"CREATE DATABASE {name}")
            yield [Database(url.replace("/postgres?", f"/{name}?"), pid) for name in names]


def _number(cursor: sqlite3.Cursor | psycopg.Cursor[tuple[int]]) -> int:
    return int(cursor.fetchone()[0]) if cursor.description else cursor.rowcount  # type: ignore[index]
