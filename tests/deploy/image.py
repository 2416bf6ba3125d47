"""The image of deploy/Dockerfile, built without a container engine: its steps run in an empty folder.

Two things are missing that a container engine would add: a root of its own, and the base image with its Python.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
HOME = "/srv/latchkey"
START = 60  # seconds
EMPTY: Mapping[str, str] = {}

# Root can switch to another user, as the image does. Other users can't.
USER = 10001 if os.geteuid() == 0 else None


def steps(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def find_python() -> str | None:
    """Return a Python with pip that the user of the image may run: the image's version, if there is one here."""
    version = dict(rest.split("=") for name, rest in steps(DOCKERFILE.read_text()) if name == "ARG")["PYTHON"]
    ask = "import pip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for name in (f"python{version}", "/usr/bin/python3", getattr(sys, "_base_executable", sys.executable)):
        found = shutil.which(name)
        if found and _succeeds([found, "-c", ask]):
            return found
    return None


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, user=USER, cwd="/", capture_output=True, check=False).returncode == 0
    except PermissionError:
        return False


@dataclass
class Image:
    """The result of the Dockerfile's last stage: files, variables and the command."""

    python: str
    folder: Path
    """The folder that serves as the root of the file system."""

    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stage: str = ""

    @property
    def home(self) -> Path:
        return self.folder / HOME.lstrip("/")

    def build(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "bin/python").symlink_to(self.python)
        for name, rest in steps(DOCKERFILE.read_text()):
            getattr(self, f"_{name.lower()}", self._ignore)(rest)

    def _ignore(self, rest: str) -> None:
        """Leave out ARG, WORKDIR, USER and EXPOSE, which tests/deploy/test_image.py reads."""

    def _from(self, rest: str) -> None:
        """Begin with nothing. The previous stage is kept under its name."""
        if self.home.exists():
            self.home.rename(self.folder / self.stage)
        self.stage = rest.partition(" AS ")[2]
        self.environment = {}
        self.home.mkdir(parents=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        base = ROOT
        if sources[0].startswith("--from="):
            base, sources = self.folder / sources[0].removeprefix("--from="), [sources[1].removeprefix(f"{HOME}")]
        for source in sources:
            path = base / source.lstrip("/")
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__") if base == ROOT else None
                shutil.copytree(path, self.home / target, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            else:
                (self.home / target).mkdir(exist_ok=True)
                shutil.copy(path, self.home / target)

    def _run(self, rest: str) -> None:
        self.run(["sh", "-ec", rest], user=None)

    def _env(self, rest: str) -> None:
        for name, value in (assignment.split("=", 1) for assignment in shlex.split(rest)):
            self.environment[name] = value.replace(HOME, str(self.home)).replace("$PATH", self._path)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition(" CMD ")[2])

    @property
    def _path(self) -> str:
        return f"{self.folder}/bin:/usr/bin:/bin"

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of the image and the given ones; from this process, only pip's configuration."""
        passed_on = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("PIP_")}
        return {"PATH": self._path, **passed_on, **self.environment, **given}

    def run(self, command: list[str], settings: Mapping[str, str] = EMPTY, user: int | None = USER) -> str:
        """Run a command in the image, by default as the image's user; return its output."""
        done = subprocess.run(
            [shutil.which(command[0], path=self._environment(settings)["PATH"]) or command[0], *command[1:]],
            cwd=self.home,
            user=user,
            env=self._environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def serve(self, settings: Mapping[str, str], command: list[str] | None = None) -> Iterator[None]:
        """Run the command of the image, or another, and wait until the health check passes."""
        given = self._environment({"HOST": "127.0.0.1", **settings})
        command = command or self.command
        with (
            TemporaryDirectory(prefix="latchkey-server-") as folder,
            Path(folder, "output").open("wb") as sink,
            subprocess.Popen(
                [shutil.which(command[0], path=given["PATH"]) or command[0], *command[1:]],
                cwd=self.home,
                user=USER,
                env=given,
                stdout=sink,
                stderr=sink,
            ) as process,
        ):
            try:
                self._wait(process, Path(folder, "output"), settings)
                yield
            finally:
                process.terminate()

    def _wait(self, process: subprocess.Popen[bytes], printed: Path, settings: Mapping[str, str]) -> None:
        deadline = monotonic() + START
        while True:
            try:
                self.run(self.health, settings)
            except AssertionError:
                assert process.poll() is None, printed.read_text()
                assert monotonic() < deadline, printed.read_text()
                sleep(0.2)
            else:
                return
