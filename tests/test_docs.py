"""Compares the documentation with the code: its commands run, its tables are complete, its links work."""

import ast
import inspect
import os
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal
from django.test import Client
from rest_framework.exceptions import APIException, ValidationError

import config.serving.errors  # noqa: F401 (its codes are documented too)
import tokens.conf
import tokens.domain.events
import tokens.domain.sessions
import tokens.signals
from api.schema import schema
from tests.server import serve
from tests.shell import Shell
from tokens import kinds
from tokens.exceptions import TokenRefused
from tokens.models import Reason, Session

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
APPS = ("accounts", "api", "config", "tokens")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text()


def section(name: str, heading: str) -> str:
    """Return the text below a second-level heading, up to the next one."""
    _, found, below = read(name).partition(f"\n## {heading}\n")
    assert found, f"{name} has no {heading!r}"
    return below.partition("\n## ")[0]


def table(name: str, head: str, key: int = 0) -> dict[str, list[str]]:
    """Return the rows of the table with that first heading, by the text in one of the columns."""
    lines = [line.strip("| ").split(" | ") if line.startswith("| ") else None for line in read(name).splitlines()]
    start = next(number for number, cells in enumerate(lines) if cells and cells[0] == head) + 2
    rows = []
    for cells in lines[start:]:
        if cells is None:
            break
        rows.append([cell.strip() for cell in cells])
    assert len({cells[key] for cells in rows}) == len(rows)
    return {cells[key].strip("`"): cells for cells in rows}


def source(*folders: str) -> str:
    return "\n".join(path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py"))


# The tour


@pytest.fixture
def tour(database_url: str, tmp_path: Path, django_db_reset_sequences: None) -> Iterator[tuple[str, Shell]]:
    """Yield the address of a server, and a shell in which waits are short and `make admin` asks no questions."""
    if not shutil.which("curl"):
        pytest.skip("The tour was not run: it needs curl.")
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "tests.settings_server",
        "SECRET_KEY": str(settings.SECRET_KEY),
        "DATABASE_URL": database_url,
        "DJANGO_SUPERUSER_USERNAME": "grace",
        "DJANGO_SUPERUSER_EMAIL": "grace@example.com",
        "DJANGO_SUPERUSER_PASSWORD": "the first compiler",
    }
    with serve(database_url, DEBUG="true", REFRESH_GRACE_PERIOD="1") as url:
        shell = Shell(tmp_path, environment)
        shell.run(f"sleep() {{ command sleep 1.5; }}; make() {{ {MANAGE} createsuperuser --noinput; }}")
        try:
            yield url, shell
        finally:
            shell.close()


MANAGE = f"{sys.executable} {ROOT / 'manage.py'}"


def test_tour_prints_what_it_shows(tour: tuple[str, Shell]) -> None:
    url, shell = tour
    blocks: list[tuple[str, str]] = BLOCK.findall(section("docs/tour.md", "A tour"))
    assert len(blocks) > 15
    for (language, block), (following, shown) in pairwise([*blocks, ("sh", "")]):
        if language != "sh":
            continue
        printed = shell.run(block.replace("http://localhost:8000", url).replace(".venv/bin/python manage.py", MANAGE))
        if following != "sh":
            pattern = re.escape(shown.strip()).replace("…", ".*?")
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{block}\nprinted\n{printed}"
        if block == "make admin\n":
            revoke_in_the_admin()


def revoke_in_the_admin() -> None:
    staff = Client()
    credentials = {"username": "grace", "password": "the first compiler"}
    assert staff.post("/admin/login/?next=/admin/", credentials).headers["Location"] == "/admin/"
    [laptop] = Session.objects.live().filter(user__username="ada", user_agent__contains="Linux")
    answer = staff.post(
        "/admin/latchkey/session/", {"action": "revoke_selected", "_selected_action": [str(laptop.pk)]}, follow=True
    )
    assert "1 session was revoked." in answer.content.decode()


# Tables


def test_every_variable_of_the_environment_is_documented_with_its_default() -> None:
    documented = table("docs/settings.md", "variable")
    example = dict(re.findall(r"(?m)^#?([A-Z_]+)=(.*)$", read(".env.example")))

    assert sorted(documented) == sorted(example)
    for name, default in example.items():
        assert not default or f"`{default}`" in documented[name][1], name


@pytest.mark.parametrize(
    ("reader", "head", "prefix"), [("_own", "setting", "TOKENS_"), ("_simple_jwt", "`SIMPLE_JWT`", "")]
)
def test_every_setting_is_documented_with_its_default(reader: str, head: str, prefix: str) -> None:
    documented = table("docs/settings.md", head)
    defaults = {}
    for node in ast.walk(ast.parse(inspect.getsource(tokens.conf))):
        match node:
            case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Constant(value=str(name)), value]) if attr == reader:
                defaults[prefix + name] = ast.unparse(value).replace("django_settings.", "").replace("'", '"')

    assert sorted(documented) == sorted(defaults)
    for name, default in defaults.items():
        # None stands for another setting, and the two dictionaries have tables of their own.
        assert documented[name][1] in (f"`{default}`", "[below](#limits)", "[below](#rates)") or default == "None", name


def test_every_limit_is_documented() -> None:
    limits = {name: row[1:3] for name, row in table("docs/settings.md", "in `TOKENS_LIMITS`").items()}
    rates = {name: row[1] for name, row in table("docs/settings.md", "in `TOKENS_THROTTLE_RATES`").items()}

    assert limits == {
        name: [f"{tries}", f"{interval:g} seconds"] for name, (tries, interval) in tokens.conf.DEFAULT_LIMITS.items()
    }
    assert rates == {name: f"`{rate}`" for name, rate in tokens.conf.DEFAULT_THROTTLE_RATES.items()}


def test_every_check_is_documented() -> None:
    ids = set(re.findall(r'\bid="(\w+\.[A-Z][0-9]{3})"', source(*APPS)))

    assert sorted(table("docs/checks.md", "id")) == sorted(ids)


def test_every_error_code_is_documented() -> None:
    codes = {str(error.default_code) for error in subclasses(APIException) if is_ours_or_drfs(error)}
    codes |= {error.code for error in subclasses(TokenRefused) if "code" in vars(error)}
    codes |= set(codes_in(schema()))

    assert sorted(table("docs/sessions.md", "status", key=1)) == sorted(codes - {ValidationError.default_code})


def is_ours_or_drfs(error: type) -> bool:
    return error.__module__.partition(".")[0] in APPS or error.__module__ == APIException.__module__


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from subclasses(subclass)


def codes_in(document: Any) -> Iterator[str]:
    match document:
        case {"code": {"enum": codes}}:
            yield from codes
        case dict():
            for value in document.values():
                yield from codes_in(value)
        case list():
            for value in document:
                yield from codes_in(value)


def test_every_kind_of_event_and_reason_is_documented() -> None:
    assert sorted(table("docs/events.md", "kind")) == sorted(kinds.TABLE)
    assert sorted(table("docs/events.md", "reason")) == sorted(Reason.values)


def test_every_notice_is_documented_with_its_subject() -> None:
    documented = {name: row[2] for name, row in table("docs/events.md", "notice").items()}
    assert documented == {notice.name: str(notice.subject) for notice in kinds.notices().values()}


def test_every_signal_is_documented_with_its_arguments() -> None:
    sent: dict[str, list[str]] = {}
    source = inspect.getsource(tokens.domain.sessions) + inspect.getsource(tokens.domain.events)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=signal), attr="send"), keywords=keywords):
                sent[signal] = [str(keyword.arg) for keyword in keywords]
    documented = {name: re.findall(r"`(\w+)`", row[1]) for name, row in table("docs/events.md", "signal").items()}

    assert documented == sent
    assert sorted(sent) == sorted(name for name, value in vars(tokens.signals).items() if isinstance(value, Signal))


def test_every_command_is_documented_with_its_options() -> None:
    ours = {name: app for name, app in get_commands().items() if app in APPS}
    options = set(re.findall(r"--[a-z-]+", BaseCommand().create_parser("manage.py", "any").format_help()))

    headings = re.findall(r"(?m)^## (\w+)$", read("docs/commands.md"))
    assert sorted(ours) == sorted(set(headings) - {"Cron", "make"})
    for name, app in ours.items():
        its = load_command_class(app, name).create_parser("manage.py", name).format_help()
        documented = set(re.findall(r"(?m)^\| `(--[a-z-]+)", section("docs/commands.md", name)))
        assert documented == set(re.findall(r"--[a-z-]+", its)) - options - {"--no-input"}, name


def test_every_target_of_make_is_documented() -> None:
    targets = [target for line in re.findall(r"(?m)^\.PHONY:(.*)$", read("Makefile")) for target in line.split()]

    assert sorted(table("docs/commands.md", "target")) == sorted(f"make {target}" for target in targets)


def test_documented_apps_are_installed() -> None:
    assert set(APPS) <= {config.name for config in apps.get_app_configs()}


# Files for deployment


def test_deployment_shows_what_the_files_hold() -> None:
    blocks = dict(BLOCK.findall(section("docs/deployment.md", "Proxies and TLS")))
    for line in blocks["nginx"].splitlines():
        assert f"        {line}\n" in read("deploy/nginx.conf")
    assert BLOCK.findall(section("docs/deployment.md", "A platform")) == [("text", read("deploy/Procfile"))]


def test_every_deployment_file_is_documented() -> None:
    """Except files that others include."""
    page = read("docs/deployment.md")
    for path in (ROOT / "deploy").rglob("*"):
        name = str(path.relative_to(ROOT / "deploy"))
        assert (
            path.is_dir()
            or name in ("Dockerfile.dockerignore", "requirements.txt")
            or f"{name}`" in page
            or f"{path.parent.name}/*`" in page
        ), name


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> list[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", BLOCK.sub("", page.read_text()))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)*\w+\.(?:py|js|html)|(?:\w+/)+)`", ARCHITECTURE))))
def test_files_in_the_architecture_exist(path: str) -> None:
    """Those of an app may be named from its folder on."""
    assert any((ROOT / start / path).exists() for start in ("", *APPS, "accounts/factors"))


@pytest.mark.parametrize(
    ("owner", "name"),
    sorted(set(re.findall(r"`(?!django|latchkey|Meta)(\w+)\.(?!md|py)(\w+)(?:\(.*?\))?`", ARCHITECTURE))),
)
def test_names_in_the_architecture_exist(owner: str, name: str) -> None:
    """A name is shown with its module or its class."""
    modules = [path.read_text() for app in APPS for path in (ROOT / app).rglob(f"{owner}.py")]
    classes = re.findall(rf"^class {owner}\b.*?(?=^\S|\Z)", source(*APPS), re.DOTALL | re.MULTILINE)
    defined = re.compile(rf"^ *(?:(?:async )?def|class) {name}\b|^ *{name}\b[^=\n]*=", re.MULTILINE)
    assert any(map(defined.search, [*modules, *classes]))


def test_changelog_has_an_unreleased_section() -> None:
    assert "\n## [Unreleased]\n" in read("CHANGELOG.md")
