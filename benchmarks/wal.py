"""Counts PostgreSQL's write-ahead log, with pg_waldump."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.databases import Database


class Wal(NamedTuple):
    records: int
    """Bytes of the records of all kinds, such as updates, commits and prunings."""

    pages: int
    """Bytes of whole pages: the first change of a page after a checkpoint adds one."""

    def __add__(self, other: object) -> "Wal":
        if not isinstance(other, Wal):
            return NotImplemented
        return Wal(self.records + other.records, self.pages + other.pages)


def position(database: Database) -> int:
    return database.execute("SELECT pg_current_wal_flush_lsn() - '0/0'")


def written(database: Database, since: int) -> Wal:
    """Return what the server has written since that position."""
    server = Path(f"/proc/{database.pid}")
    bounds = [f"{at >> 32:X}/{at & 0xFFFFFFFF:X}" for at in (since, position(database))]
    program, folder = server.joinpath("exe").resolve().with_name("pg_waldump"), server / "cwd" / "pg_wal"
    command = [str(program), "--stats", f"--path={folder}", f"--start={bounds[0]}", f"--end={bounds[1]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers = re.search(r"^Total +\d+ +(\d+) \[\S+\] +(\d+) ", done.stdout, re.MULTILINE)
    if numbers is None:
        raise RuntimeError(f"pg_waldump printed {done.stdout}")
    return Wal(*map(int, numbers.groups()))
