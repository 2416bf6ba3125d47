"""The app as other projects get it: its wheel, in an environment with nothing else from this repository."""

import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("tokens", "pyproject.toml", "setup.py", "LICENSE")
REQUIREMENTS = Path(__file__).with_name("hosts") / "requirements.txt"


def environment(folder: Path) -> Path:
    """Return the Python of an environment with the wheel and what host projects need; the first call creates it.

    Its packages have the versions in requirements-dev.txt, if they are listed there.
    """
    python = folder / "venv/bin/python"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            wheel = build(folder)
            _run(sys.executable, "-m", "venv", "--clear", str(folder / "venv"))
            versions = folder / "constraints.txt"
            versions.write_text(_constraints())
            _pip(python, "install", "--constraint", str(versions), "--requirement", str(REQUIREMENTS), str(wheel))
            (folder / "made").touch()
    return python


def build(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, so it contains nothing from an earlier build."""
    sources = folder / "sources"
    sources.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, sources / name)
    _pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(folder), str(sources))
    [wheel] = folder.glob("*.whl")
    return wheel


def _constraints() -> str:
    pinned = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-dev.txt").read_text()
    return "".join(
        f"{name}=={version}\n" for name, version in re.findall(r"(?m)^([\w.-]+)(?:\[\w+\])?==(\S+)$", pinned)
    )


def _pip(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
