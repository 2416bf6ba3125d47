"""Follows docs/tutorials/react.md: its files, its commands, and what readers should see."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.server import ROOT, free_port
from tests.site.tutorials import browser, install_client, latchkey, npm_install, run, started, write

PAGE = "tutorials/react.md"
PASSWORD = "the analytical engine"


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[tuple[str, BrowserContext]]:
    """Yield the address of the page, and a browser."""
    page, other = free_port(), free_port()
    app = tmp_path / "my-app"
    with ExitStack() as stack:
        server = stack.enter_context(latchkey(tmp_path, TRUSTED_ORIGINS=f"http://localhost:{page}"))
        npm_install("react", app)
        install_client(tmp_path, app)
        changes = {
            "http://localhost:8000": server,
            "localhost:5173": f"localhost:{page}",
            "localhost:9000": f"localhost:{other}",
            "listen(9000": f"listen({other}",
        }
        names = write(PAGE, app, changes)
        assert names == ["index.html", "tsconfig.json", "src/client.ts", "src/main.tsx", "src/App.tsx", "api.mjs"]
        run(app, "npx tsc")
        url = f"http://localhost:{page}"
        stack.enter_context(started(app, f"npx vite --port {page} --strictPort", url))
        stack.enter_context(started(app, "node api.mjs", f"http://localhost:{other}"))
        yield url, stack.enter_context(browser())


def test_page_built_from_scratch_does_what_the_tutorial_says(tutorial: tuple[str, BrowserContext]) -> None:
    url, context = tutorial
    first = context.new_page()
    first.goto(url)
    fill(first, "Create account")
    expect(first.get_by_role("heading")).to_have_text("Hello ada")

    first.get_by_role("button", name="My sessions").click()
    expect(first.locator("pre")).to_contain_text('"current":true')
    first.get_by_role("button", name="The other API").click()
    expect(first.locator("pre")).to_have_text("Hello ada, says the other API")

    lost = lose_the_next_refresh(context)
    first.reload()
    expect(first.get_by_role("heading")).to_have_text("Hello ada")
    assert lost == ["lost"]

    second = context.new_page()
    second.goto(url)
    expect(second.get_by_role("heading")).to_have_text("Hello ada")
    first.get_by_role("button", name="Sign out").click()
    for page in (first, second):
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    fill(first, "Sign in", password="a guess")
    expect(first.get_by_role("alert")).not_to_be_empty()
    fill(first, "Sign in")
    for page in (first, second):
        expect(page.get_by_role("heading")).to_have_text("Hello ada")


def fill(page: Page, button: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name=button).click()


def lose_the_next_refresh(context: BrowserContext) -> list[str]:
    """Let the server respond to the next refresh, and lose the response."""
    lost: list[str] = []

    def lose(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append("lost")
            route.fetch()
            route.abort()

    context.route("**/auth/refresh-token", lose)
    return lost


def test_tutorial_names_the_commands_that_were_run() -> None:
    page = (ROOT / "docs" / PAGE).read_text()
    for command in (
        "npm --prefix ../latchkey/client ci",
        "npm pack ../latchkey/client",
        "npm install react react-dom ./latchkey-client-*.tgz",
        "npx tsc",
        "npx vite",
        "node api.mjs",
    ):
        assert f"\n{command}" in page
