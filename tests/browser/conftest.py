"""Chromium, driven against the server as it runs in production.

Playwright and the tests that use it run in one thread. Playwright's event loop is there, and Django keeps separate
connections to the database in a thread with a loop.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.browser.people import LINUX
from tests.chromium import running_chromium
from tests.server import address_of_database, serve

TIMEOUT = 60_000  # milliseconds
FLAGS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Chromium:
    """The browser, and the thread that drives it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.started = ExitStack()

    def run(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.thread.submit(act, *args, **kwargs).result()

    def start(self, *flags: str, **options: Any) -> None:
        self.browser: Browser = self.started.enter_context(running_chromium(*FLAGS, *flags, **options))
        expect.set_options(timeout=TIMEOUT)

    def stop(self) -> None:
        self.run(self.started.close)
        self.thread.shutdown()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in a row, since they share a server, and first, since they take the longest."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/browser/"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    chromium = pyfuncitem.funcargs.get("chromium")
    if not isinstance(chromium, Chromium):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    chromium.run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    return True


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    chromium.run(chromium.start)
    yield chromium
    chromium.stop()


@pytest.fixture(scope="session")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mails")


@pytest.fixture(scope="package")
def server(django_db_setup: None, mails: Path) -> Iterator[str]:
    """End with these tests: the server would also send the mails of other tests in this database."""
    with serve(address_of_database(), EMAIL_URL=f"filemail:///{mails}", THREADS="8") as url:
        yield url


@pytest.fixture
def site(transactional_db: None, server: str, mails: Path) -> str:
    """Return the base URL of a server whose database is empty, as is the folder of its mails."""
    for mail in mails.iterdir():
        mail.unlink()
    return server


class Visitor:
    """A browser of its own: cookies, storage, and a console that has to stay empty."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self.complaints: list[str] = []
        # A page that opens asks whether a user is signed in, and the browser logs the 401.
        self.expected: list[str] = [f"401 (Unauthorized) {base_url}/auth/refresh-token"]
        context.set_default_timeout(TIMEOUT)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def open(self, path: str = "") -> Page:
        page = self.context.new_page()
        if path:
            page.goto(path)
        return page

    def expect_complaint(self, *parts: str) -> None:
        """Expect this message in the console: the browser logs every error response, even a handled one."""
        self.expected.extend(parts)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    @property
    def unexpected(self) -> list[str]:
        return [complaint for complaint in self.complaints if not any(part in complaint for part in self.expected)]


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(site: str, chromium: Chromium) -> Iterator[Visit]:
    """Open a browser. Its pages are on the site, unless another base_url is given."""
    visitors: list[Visitor] = []

    def visit(user_agent: str = LINUX, **options: Any) -> Visitor:
        options = {"base_url": site, "user_agent": user_agent, **options}
        visitors.append(Visitor(chromium.browser.new_context(**options), options["base_url"]))
        return visitors[-1]

    def leave() -> None:
        for visitor in visitors:
            visitor.context.close()

    yield visit
    chromium.run(leave)
    for visitor in visitors:
        assert visitor.unexpected == []


@pytest.fixture
def visitor(chromium: Chromium, visit: Visit) -> Visitor:
    visitor: Visitor = chromium.run(visit)
    return visitor


@pytest.fixture
def page(chromium: Chromium, visitor: Visitor) -> Page:
    page: Page = chromium.run(visitor.open)
    return page
