import subprocess
import zipfile
from pathlib import Path

from tests.hosts.conftest import Host
from tests.wheel import ROOT


def test_wheel_contains_the_whole_app_and_nothing_else(host_python: Path) -> None:
    [wheel] = host_python.parent.parent.parent.glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "tokens"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {f"latchkey{name.removeprefix('tokens')}" for name in tracked.stdout.splitlines()}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if not name.endswith(".po")}


def test_startproject_with_the_app_added_is_clean_and_its_tests_run(host: Host) -> None:
    host.manage("makemigrations", "tokens")
    host.manage("check", "--fail-level", "WARNING")
    host.manage("makemigrations", "--check", "--dry-run")
    host.test()


def test_app_copied_below_another_package_works(host: Host) -> None:
    """The wheel is out of reach, so only the copy can be imported."""
    vendor = host.folder / "vendor"
    vendor.mkdir()
    (vendor / "__init__.py").touch()
    subprocess.run(["cp", "-r", str(ROOT / "tokens"), str(vendor / "anything")], check=True)
    (host.folder / "latchkey.py").write_text('raise ImportError("not this one")\n')
    host.environment["LATCHKEY"] = "vendor.anything"
    host.manage("makemigrations", "tokens")
    host.manage("check", "--fail-level", "WARNING")
    host.manage("makemigrations", "--check", "--dry-run")
    host.test()
