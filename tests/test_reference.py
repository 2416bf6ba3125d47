"""docs/reference: each command prints what the page shows, and no call of the schema is missing."""

import json
import os
import re
import shutil
import sys
from base64 import b32decode
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.conf import settings

from accounts.models import Mail
from api.schema import schema
from tests.accounts.authenticator import Authenticator
from tests.mailbox import find_link, wait_until
from tests.server import ROOT, address_of_database, free_port, serve
from tests.shell import Shell

REFERENCE = ROOT / "docs/reference"
PAGES = sorted(path.stem for path in REFERENCE.glob("*.md") if path.stem != "index")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BODY = re.compile(r"""-d (?:'(\{.*?\})'|"(\{.*?\})"|["'](token=.*?)["'])""", re.DOTALL)
HEADING = re.compile(r"(?m)^## `([A-Z]+) (\S+)`$")
CHANGED_PASSWORD = "the note on the engine"
METHODS = ("get", "post", "put", "patch", "delete")
STAFF = {
    "DJANGO_SUPERUSER_USERNAME": "grace",
    "DJANGO_SUPERUSER_EMAIL": "grace@example.com",
    "DJANGO_SUPERUSER_PASSWORD": "the first compiler",
}


def read(page: str) -> str:
    return (REFERENCE / f"{page}.md").read_text()


class Reader:
    """A reader who pastes the lines of a page, reads the mails, and has an authenticator app and a passkey."""

    def __init__(self, url: str, shell: Shell, mails: Path) -> None:
        self.shell, self.mails, self.drifts = shell, mails, iter((-30, 0, 30))
        self.authenticator = Authenticator(origin=url)

    def paste(self, block: str) -> str:
        if "$token" in block:
            leads_to = "reset-password" if "/password/" in block else "verify-email"
            link = find_link(self.mails, rf"/{leads_to}#uid=(\S+?)&token=(\S+)")
            self.shell.run(f"uid={link[1]} token={link[2]}")
        if "$code" in block and "code=" not in block:
            self.shell.run(f"code={self.read_the_app()}")
        if "$credential" in block:
            self.shell.run(f"credential='{self.use_the_authenticator()}'")
        return self.shell.run(block)

    def use_the_authenticator(self) -> str:
        """Answer the options that the page has just been given."""
        options = json.loads(self.shell.run("cat options.json"))["publicKey"]
        make = self.authenticator.create if "user" in options else self.authenticator.get
        return json.dumps(make(options))

    def read_the_app(self) -> str:
        """Return a code of the previous, the current or the next half minute. Each is valid once, in that order."""
        secret = b32decode(self.shell.run('printf %s "$secret"'))
        return TOTP(secret, 6, SHA1(), 30, enforce_key_length=False).generate(int(time()) + next(self.drifts)).decode()


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mails")


@pytest.fixture(scope="module")
def server(django_db_setup: None, mails: Path) -> Iterator[str]:
    port = str(free_port())
    given: dict[str, Any] = {
        "PORT": port,
        "PUBLIC_URL": f"http://localhost:{port}",
        "DEBUG": "true",
        "EMAIL_URL": f"filemail:///{mails}",
        "INTROSPECTION_CREDENTIALS": "billing:a-secret-of-its-own",
        "METRICS_TOKEN": "a-token-of-the-scraper",
    }
    with serve(address_of_database(), **given):
        yield given["PUBLIC_URL"]


@pytest.fixture
def reader(
    database_url: str, server: str, mails: Path, tmp_path: Path, django_db_reset_sequences: None
) -> Iterator[tuple[str, Reader]]:
    if not shutil.which("curl"):
        pytest.skip("The reference was not run: it needs curl.")
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "tests.settings_server",
        "SECRET_KEY": str(settings.SECRET_KEY),
        "DATABASE_URL": database_url,
        **STAFF,
    }
    shell = Shell(tmp_path, environment)
    shell.run(f"make() {{ {sys.executable} {ROOT / 'manage.py'} createsuperuser --noinput; }}")
    try:
        yield server, Reader(server, shell, mails)
    finally:
        shell.close()
    wait_until(lambda: not Mail.objects.exists())  # so none arrives late, while the next page is read
    for mail in mails.iterdir():
        mail.unlink()


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_what_its_lines_print(reader: tuple[str, Reader], page: str) -> None:
    url, somebody = reader
    blocks: list[tuple[str, str]] = BLOCK.findall(read("index")) + BLOCK.findall(read(page))
    for (language, block), (following, shown) in pairwise([*blocks, ("sh", "")]):
        if language != "sh":
            continue
        printed = somebody.paste(block.replace("http://localhost:8000", url))
        if following != "sh":
            pattern = re.escape(shown.strip()).replace("…", ".*?")
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{block}\nprinted\n{printed}"


def title(page: str) -> str:
    return read(page).partition("\n")[0].removeprefix("# ").partition(":")[0]


def test_calls_have_the_tags_of_their_pages() -> None:
    tags = {call: operation["tags"] for call, operation in operations().items()}
    pages = {call: [title(page)] for page in PAGES for call in HEADING.findall(read(page))}
    assert tags == {call: pages[call] for call in tags}
    ordered = re.findall(r"\| \[.+\]\(([\w-]+)\.md\)", read("index"))
    assert [tag["name"] for tag in schema()["tags"]] == [title(page) for page in ordered]


def sections() -> dict[tuple[str, str], str]:
    """Return the text about each call, with its page's general text, by method and path."""
    found: dict[tuple[str, str], str] = {}
    for page in PAGES:
        of_all, *parts = re.split(r"(?m)^(?=## )", read(page))
        for part in parts:
            if heading := HEADING.match(part):
                assert heading.groups() not in found
                found[heading[1], heading[2]] = part + BLOCK.sub("", of_all)
    return found


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_every_call_is_documented_once() -> None:
    beside_the_schema = {("GET", "/metrics")}
    assert sections().keys() - beside_the_schema == operations().keys()


def test_every_call_is_shown_with_a_request_and_its_answer() -> None:
    for (method, path), section in sections().items():
        languages = [language for language, _ in BLOCK.findall(section)]
        assert languages[:1] == ["sh"], path
        assert {*languages} & {"json", "text"}, path
        assert f"$url{path.partition('{')[0]}" in section, path
        assert method in ("GET", "POST") or f"-X {method}" in section, path


def test_bodies_of_the_schema_are_those_of_the_pages() -> None:
    for call, operation in operations().items():
        for shown in example_of(operation):
            assert shown in [with_values_of(shown, body) for body in bodies_in(sections()[call])], call


def example_of(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body that the schema shows, if the call reads one."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for shown in content.get("examples", {}).values():
            yield shown["value"]


def bodies_in(section: str) -> Iterator[dict[str, Any]]:
    for literal, quoted, form in BODY.findall(section):
        if form:
            yield dict(parse_qsl(form))
        else:
            in_quotes = re.sub(r"(?<!\")(\$\w+)", r'"\1"', quoted.replace('\\"', '"'))
            yield json.loads(literal or in_quotes)


def with_values_of(shown: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with the values of the other for its variables, and for a password that the page has changed."""
    return {
        name: shown.get(name) if str(value).startswith("$") or value == CHANGED_PASSWORD else value
        for name, value in body.items()
    }


def test_every_code_in_the_schema_is_documented() -> None:
    on_index = set(re.findall(r"`(\w+)`", "".join(re.findall(r"(?m)^\|(?: \d+ \|)? `\w+.*? \|", read("index")))))
    for call, section in sections().items():
        codes = set(codes_in(operations().get(call, {})))
        assert codes - on_index <= set(re.findall(r"`(\w+)`", section)), call


def test_every_documented_code_is_in_the_schema() -> None:
    for call, operation in operations().items():
        for status, codes in re.findall(r"\b(4\d\d)((?:,? `\w+`)+)", sections()[call]):
            assert set(re.findall(r"\w+", codes)) <= set(codes_in(operation["responses"].get(status))), call


def codes_in(document: Any) -> Iterator[str]:
    components = schema()["components"]["schemas"]
    match document:
        case {"$ref": str(reference)}:
            yield from codes_in(components[reference.rpartition("/")[2]])
        case {"code": {"enum": codes}}:
            yield from codes
        case dict():
            for value in document.values():
                yield from codes_in(value)
        case list():
            for value in document:
                yield from codes_in(value)
