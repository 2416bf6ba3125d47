"""Runs the server as in production: gunicorn with its workers, in separate processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
START = 60  # seconds
STOP = 20  # seconds


def address_of_database() -> str:
    """Return the DATABASE_URL of the test database."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return f"postgresql://postgres@/{database['NAME']}?host={quote(database['OPTIONS']['host'])}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    database_url: str, output: Path | None = None, *, python: str = sys.executable, **environment: str
) -> Iterator[str]:
    """Run the server against the database, with these environment variables; yield its base URL.

    It listens on PORT, if given, or else on a free one. Its output goes into the file, if one is named. `python` is the
    program that runs it, if it is not this environment's. Raises RuntimeError with its output if it does not respond.
    """
    port = environment.get("PORT") or str(free_port())
    url = f"http://127.0.0.1:{port}"
    passed_on = ("PATH", "PYTHONPATH", "HOME", "LANG", "TMPDIR")
    inherited = {name: os.environ[name] for name in passed_on if name in os.environ}
    given = {
        **inherited,
        "ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "tests.settings_cheap",
        "SECRET_KEY": str(settings.SECRET_KEY),
        "PUBLIC_URL": url,
        "DATABASE_URL": database_url,
        **environment,
        "PORT": port,
    }
    command = [python, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]
    with TemporaryDirectory(prefix="latchkey-server-") as folder:
        printed = output or Path(folder, "output")
        with (
            printed.open("ab") as sink,
            subprocess.Popen(command, cwd=ROOT, env=given, stdout=sink, stderr=sink) as process,
        ):
            try:
                _wait_until_it_answers(f"{url}/health/live", process, printed)
                yield url
            finally:
                _stop(process)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], printed: Path) -> None:
    deadline = monotonic() + START
    while process.poll() is None and monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            sleep(0.05)
    raise RuntimeError(f"The server does not answer:\n{printed.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
