"""deploy/Dockerfile, step by step, and the resulting image."""

import re
import subprocess
from pathlib import Path

from tests.deploy.conftest import Deployed
from tests.deploy.image import DOCKERFILE, HOME, ROOT, Image, steps
from tests.tools import HADOLINT


def test_linter_reports_nothing() -> None:
    done = subprocess.run([str(HADOLINT), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_build_context_contains_only_what_is_copied() -> None:
    copied = [rest.split()[0].rstrip("/") for name, rest in steps(DOCKERFILE.read_text()) if name == "COPY"]
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied[:-1])
    assert copied[-1] == "--from=build"
    assert lines[1] == "*"


def test_image_runs_as_an_unprivileged_user_by_number() -> None:
    [user] = [rest for name, rest in steps(DOCKERFILE.read_text()) if name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert {rest for name, rest in steps(DOCKERFILE.read_text()) if name == "WORKDIR"} == {HOME}


def test_image_uses_the_tested_versions() -> None:
    lines = (ROOT / "deploy/requirements.txt").read_text().splitlines()
    tried = (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert "-r ../requirements.txt" in lines
    assert {line for line in lines if "==" in line} <= {*tried}


def test_image_serves_and_changes_none_of_its_files(deployed: Deployed) -> None:
    image, settings = deployed.image, deployed.settings | {"PUBLIC_URL": "https://auth.example.com"}
    before = contents(image)
    assert image.run(["python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"], settings)
    with image.serve(settings):
        image.run(
            [
                "python",
                "-c",
                f"import urllib.request as r; r.urlopen('http://127.0.0.1:{settings['PORT']}/health/ready')",
            ]
        )
    for command in ("flushexpiredtokens", "clearsessions"):
        image.run(["python", "manage.py", command], settings)
    assert contents(image) == before
    assert not [*image.home.glob("**/pip/__init__.py")]


def contents(image: Image) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in image.home.rglob("*") if not path.is_symlink()
    }


def test_procfile_runs(deployed: Deployed) -> None:
    lines = dict(line.split(": ") for line in (ROOT / "deploy/Procfile").read_text().splitlines())
    settings = deployed.settings | {"PUBLIC_URL": "https://auth.example.com"}
    assert "No migrations to apply" in deployed.image.run(lines["release"].split(), settings)
    with deployed.image.serve(settings, lines["web"].split()):
        pass
