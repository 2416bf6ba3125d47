"""SQLite's files are for their owner's eyes: they hold the hashes of passwords, and every session."""

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


def protect(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Take the database's file from whoever else may read it; for the signal `connection_created`.

    SQLite gives the files that it makes beside it the same mode. One that is shared with a group is left so.
    """
    if connection.vendor != "sqlite":
        return
    for suffix in ("", "-wal", "-shm"):
        path = Path(f"{connection.settings_dict['NAME']}{suffix}")
        with suppress(OSError):  # it is in memory, or another user's
            if path.stat().st_mode & stat.S_IROTH:
                path.chmod(0o600)
