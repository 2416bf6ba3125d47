"""The documentation site, as `make docs` builds it, is complete and requests nothing from other hosts."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests import diagrams
from tests.chromium import running_chromium
from tests.server import ROOT
from tests.tools import CHROMIUM

ENVIRONMENT = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}


def build(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not find_spec("mkdocs"):
        pytest.skip("The site was not built: it needs more packages (pip install -r requirements-docs.txt).")
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


# It is whole


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("")
        folder = name.parent if name.name in ("index", "README") else name
        assert (site / folder / "index.html").is_file(), name
    assert not [*site.rglob("*.py")]


@pytest.mark.parametrize(
    ("page", "text", "complaint"),
    [
        ("keys.md", "[gone](gone.md)", "gone.md"),
        ("keys.md", "[gone](settings.md#gone)", "#gone"),
        ("keys.md", "![gone](images/gone.png)", "images/gone.png"),
        ("unknown.md", "# A page that nobody finds", "unknown.md"),
    ],
)
def test_site_with_an_error_is_not_built(site: Path, tmp_path: Path, page: str, text: str, complaint: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / page).open("a") as file:
        file.write(f"\n{text}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert complaint in done.stderr


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_diagrams_are_up_to_date(name: str) -> None:
    assert (diagrams.IMAGES / f"{name}.svg").read_text() == diagrams.DIAGRAMS[name](), "run make diagrams"


def test_every_diagram_is_on_a_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for name in diagrams.DIAGRAMS:
        assert f"images/{name}.svg)" in pages, name


# It asks no other host


class Loaded(HTMLParser):
    """Collects the URLs that a browser loads with a page, without the links that a person follows."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        names = ("href",) if tag == "link" else () if tag == "a" else ("src", "srcset", "data", "poster", "action")
        self.urls += [value for name in names if (value := given.get(name))]


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.urls
        assert [url for url in loaded.urls if urlsplit(url).netloc] == [], page
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", style.read_text()), style


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visitor(served: str) -> Iterator[Page]:
    """A browser at the home page. Every request has to go to the site itself."""
    if not CHROMIUM:
        pytest.skip("The site was not looked at: that needs Chromium (apt-get install chromium-headless-shell).")
    with running_chromium() as browser:
        page = browser.new_page()
        asked, faults = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(served)
        yield page
    assert asked
    assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []
    assert faults == []


def test_no_page_of_the_site_requests_another_host(visitor: Page, site: Path, served: str) -> None:
    for page in sorted(site.rglob("index.html")):
        visitor.goto(f"{served}/{page.relative_to(site)}")
        broken = visitor.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        assert broken == []


def test_search_and_dark_mode_work(visitor: Page) -> None:
    visitor.get_by_role("textbox", name="Search").click()
    visitor.keyboard.type("late retry")
    expect(visitor.locator(".md-search-result__item").first).to_contain_text("late retries")
    visitor.keyboard.press("Escape")
    schemes = set()
    for _ in range(3):
        visitor.locator(".md-header__option label:not([hidden])").click()
        schemes.add(visitor.locator("body").get_attribute("data-md-color-scheme"))
    assert schemes == {"default", "slate"}
