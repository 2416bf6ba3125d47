"""Writes the tutorials' files, runs their servers, and opens a browser."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import BrowserContext

from tests.chromium import running_chromium
from tests.server import ROOT, free_port, serve

HERE = Path(__file__).parent
FILE = re.compile(r"`([\w./-]+\.\w+)`[^`\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
START = 120  # seconds


def write(page: str, folder: Path, changes: Mapping[str, str]) -> list[str]:
    """Write the files that a page of the documentation shows; return their names."""
    shown = (ROOT / "docs" / page).read_text()
    for was, now in changes.items():
        assert was in shown, was
        shown = shown.replace(was, now)
    files = FILE.findall(shown)
    for name, text in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return [name for name, _ in files]


def run(folder: Path, command: str, **environment: str) -> None:
    done = subprocess.run(
        command.split(), cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def npm_install(packages: str, app: Path) -> None:
    """Install the packages of the lock file in the folder of that name."""
    shutil.copytree(HERE / packages, app, ignore=shutil.ignore_patterns("node_modules"))
    run(app, "npm install --no-save --no-audit --no-fund")  # `ci` misses packages that are for other systems only


def install_client(folder: Path, app: Path) -> None:
    """Install the client as the tutorials say, from a copy next to the application."""
    client = folder / "latchkey/client"
    shutil.copytree(ROOT / "client", client, ignore=shutil.ignore_patterns("node_modules", "types"))
    shutil.copy(ROOT / "LICENSE", client.parent)
    run(folder, "npm --prefix latchkey/client ci --no-audit --no-fund")
    run(app, "npm pack ../latchkey/client")
    (packed,) = app.glob("latchkey-client-*.tgz")
    run(app, f"npm install --no-save --no-audit --no-fund ./{packed.name}")
    assert not (app / "node_modules/latchkey-client").is_symlink()  # a build would include React twice


@contextmanager
def latchkey(folder: Path, **settings: str) -> Iterator[str]:
    """Run the server as `make run` does, with a database of its own; yield its address."""
    port = str(free_port())
    given = {"DEBUG": "true", "PUBLIC_URL": f"http://localhost:{port}", "PORT": port, **settings}
    database = f"sqlite:///{folder}/db.sqlite3"
    environment = {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "SECRET_KEY": token_urlsafe(64),
        "DATABASE_URL": database,
    }
    migrate = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity=0"]
    subprocess.run(migrate, env=environment, cwd=ROOT, check=True)
    with serve(database, **given):  # type: ignore[arg-type]
        yield given["PUBLIC_URL"]


@contextmanager
def started(folder: Path, command: str, url: str, **environment: str) -> Iterator[None]:
    """Run a command, and wait until it responds at the address."""
    output = folder / f"{command.split(maxsplit=1)[0]}.log"
    with (
        output.open("w") as sink,
        subprocess.Popen(
            command.split(), cwd=folder, env=os.environ | environment, stdout=sink, stderr=sink, start_new_session=True
        ) as process,
    ):
        try:
            deadline = monotonic() + START
            while not answers(url):
                assert process.poll() is None, output.read_text()
                assert monotonic() < deadline, output.read_text()
                sleep(0.2)
            yield
        finally:
            os.killpg(process.pid, 15)  # npx has a child


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=30):
            return True
    except URLError as error:
        return bool(getattr(error, "code", 0))
    except (ConnectionError, TimeoutError):
        return False


@contextmanager
def browser() -> Iterator[BrowserContext]:
    with running_chromium() as chromium:
        context = chromium.new_context()
        context.set_default_timeout(30_000)
        yield context
