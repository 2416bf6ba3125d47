import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created

from config.serving.private import protect


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o600), (0o604, 0o600), (0o660, 0o660), (0o600, 0o600)])
def test_world_readable_database_is_made_private(tmp_path: Path, before: int, after: int) -> None:
    database: Any = SimpleNamespace(vendor="sqlite", settings_dict={"NAME": str(tmp_path / "db.sqlite3")})
    files = [tmp_path / f"db.sqlite3{suffix}" for suffix in ("", "-wal")]
    for file in files:
        file.touch()
        file.chmod(before)
    protect(database)
    assert [mode_of(file) for file in files] == [after, after]


def test_other_engines_and_memory_have_no_file(tmp_path: Path) -> None:
    for vendor, name in (("postgresql", str(tmp_path)), ("sqlite", ":memory:")):
        protect(SimpleNamespace(vendor=vendor, settings_dict={"NAME": name}))  # type: ignore[arg-type]
    assert mode_of(tmp_path) & 0o700


@pytest.mark.django_db
def test_every_connection_is_checked() -> None:
    assert protect in [receiver() for _, receiver, *_ in connection_created.receivers]
    if connection.vendor == "sqlite" and Path(str(connection.settings_dict["NAME"])).exists():
        assert not mode_of(Path(str(connection.settings_dict["NAME"]))) & 0o077
