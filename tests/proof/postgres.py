"""A durable PostgreSQL for one test, which can kill it, restart it, copy it to a standby and promote that."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import psycopg

from tests.plugin import programs

PATIENCE = 60  # seconds
DATABASE = "latchkey"


class Postgres:
    """One server: its data and its socket are in `folder`."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self.installed, self.folder = installed, folder
        self.user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        folder.mkdir()
        if self.user is not None:
            os.chown(folder, self.user, -1)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={self.folder}"

    def create(self) -> None:
        self.run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        self.start()
        self.execute(f"CREATE DATABASE {DATABASE}", database="postgres")

    def start(self) -> None:
        options = f"-c max_connections=100 -c listen_addresses= -c unix_socket_directories={self.folder}"
        deadline = monotonic() + PATIENCE
        while not self.run("pg_ctl", "start", "-w", "-l", f"{self.folder}/log", "-o", options, check=False):
            # The remains of a killed server disappear within moments.
            assert monotonic() < deadline, (self.folder / "log").read_text()
            sleep(0.2)

    def kill(self) -> None:
        """End it like a power cut: none of its processes can do anything more."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for number in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def stop(self) -> None:
        """Let it write everything and end."""
        self.run("pg_ctl", "stop", "-w", "-m", "fast")

    def close(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", check=False)

    def duplicate(self, folder: Path) -> "Postgres":
        """Start another server with the same data. This one has to be stopped."""
        duplicate = Postgres(self.installed, folder)
        subprocess.run(["cp", "-a", self.folder / "data", folder], check=True)
        duplicate.start()
        return duplicate

    def copy(self, folder: Path) -> "Postgres":
        """Start a standby that follows this server, and have each commit here wait until it is applied there."""
        standby = Postgres(self.installed, folder)
        standby.run("pg_basebackup", "-h", str(self.folder), "-U", "postgres", "-R", "-X", "stream", "-c", "fast")
        (folder / "data").chmod(0o700)
        standby.start()
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
        self.execute("SELECT pg_reload_conf()")
        deadline = monotonic() + PATIENCE
        while self.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            assert monotonic() < deadline, "the standby does not follow"
            sleep(0.1)
        return standby

    def promote(self) -> None:
        # It is the primary now, and waits for no standby.
        self.execute("SELECT pg_promote(wait => true)")
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.execute("SELECT pg_reload_conf()")

    def execute(self, statement: str, database: str = DATABASE) -> list[tuple[Any, ...]]:
        url = self.url.replace(f"/{DATABASE}?", f"/{database}?")
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def run(self, program: str, *arguments: str, check: bool = True) -> bool:
        command = [f"{self.installed}/bin/{program}", f"--pgdata={self.folder}/data", *arguments]
        done = subprocess.run(command, user=self.user, cwd=self.folder, capture_output=True, text=True, check=False)
        assert not (check and done.returncode), f"{program} failed:\n{done.stdout}{done.stderr}"
        return done.returncode == 0


@contextmanager
def servers(folder: Path | None = None) -> Iterator[tuple[Postgres, Path]]:
    """Run a server, in that folder if one is named; yield it, and the folder for another one."""
    with TemporaryDirectory(prefix="latchkey-proof-", dir=folder) as path:
        folder = Path(path)
        server = Postgres(programs(folder), folder / "a")
        with closing(server):
            server.create()
            yield server, folder / "b"
