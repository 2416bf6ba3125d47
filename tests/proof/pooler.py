"""PgBouncer in transaction mode, in front of a database server with a Unix socket."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import psycopg

from tests.server import free_port
from tests.tools import PGBOUNCER

PATIENCE = 60  # seconds


@contextmanager
def pooled(host: str, name: str, connections: int, **settings: str) -> Iterator[tuple[str, int]]:
    """Run PgBouncer with that many connections; yield the DATABASE_URL through it, and its process."""
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": str(connections),
        **settings,
    }
    with TemporaryDirectory(prefix="latchkey-pooler-") as folder:
        Path(folder).chmod(0o755)  # PgBouncer does not run as root
        file, printed = Path(folder, "pgbouncer.ini"), Path(folder, "output")
        lines = ["[databases]", f"* = host={host} user=postgres", "[pgbouncer]"]
        file.write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in settings.items())]))
        user = "nobody" if os.geteuid() == 0 else None
        command = [str(PGBOUNCER), str(file)]
        with printed.open("wb") as sink, subprocess.Popen(command, user=user, stdout=sink, stderr=sink) as process:
            try:
                url = f"postgresql://postgres@127.0.0.1:{port}/{name}"
                wait_until_it_answers(url, printed)
                yield url, process.pid
            finally:
                process.kill()


def wait_until_it_answers(url: str, printed: Path) -> None:
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return psycopg.connect(url).close()
        except psycopg.OperationalError:
            assert monotonic() < deadline, printed.read_text()
            sleep(0.05)
