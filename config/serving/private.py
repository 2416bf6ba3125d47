"""Makes SQLite's files readable for their owner alone: they hold password hashes and all sessions."""

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


def protect(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Take other users' access to the database file away; for the signal `connection_created`.

    SQLite gives its other files the same mode. A file that is shared with a group stays so.
    """
    if connection.vendor != "sqlite":
        return
    for suffix in ("", "-wal", "-shm"):
        path = Path(f"{connection.settings_dict['NAME']}{suffix}")
        with suppress(OSError):  # the database is in memory, or the file is another user's
            if path.stat().st_mode & stat.S_IROTH:
                path.chmod(0o600)
