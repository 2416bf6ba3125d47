"""Follows docs/tutorials/nextjs.md: the tokens stay on the server of Next.js, which renews them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.server import ROOT, free_port
from tests.site.tutorials import browser, latchkey, npm_install, run, started, write

ADA = {"username": "ada", "password": "the analytical engine"}


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[tuple[str, str, BrowserContext]]:
    """Yield the addresses of Next.js and of Latchkey, and a browser."""
    app, port = tmp_path / "my-app", free_port()
    url = f"http://localhost:{port}"
    with ExitStack() as stack:
        server = stack.enter_context(latchkey(tmp_path, TRUSTED_PROXIES="1"))
        # npm's own choice for a new package is CommonJS, which Next.js refuses.
        assert "\nnpm pkg set type=module\n" in (ROOT / "docs/tutorials/nextjs.md").read_text()
        npm_install("nextjs", app)
        assert write("tutorials/nextjs.md", app, {}) == [
            "lib/latchkey.ts",
            "proxy.ts",
            "app/actions.ts",
            "app/layout.tsx",
            "app/sign-in.tsx",
            "app/page.tsx",
        ]
        environment = {"LATCHKEY_URL": server, "INSECURE": "yes", "NEXT_TELEMETRY_DISABLED": "1"}
        run(app, "npx next build", **environment)
        stack.enter_context(started(app, f"npx next start --port {port} --hostname localhost", url, **environment))
        yield url, server, stack.enter_context(browser())


def test_nextjs_server_keeps_and_renews_the_tokens(tutorial: tuple[str, str, BrowserContext]) -> None:
    url, server, context = tutorial
    assert httpx.post(f"{server}/auth/register", json=ADA, trust_env=False).status_code == 201
    page = context.new_page()
    page.goto(url)
    for password in ("a guess", ADA["password"]):
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        if password == "a guess":
            expect(page.get_by_role("alert").first).not_to_be_empty()
    expect(page.get_by_role("heading")).to_have_text("Hello ada")
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert {name: cookie["httpOnly"] for name, cookie in cookies.items()} == {"access": True, "refresh": True}
    access, refresh = cookies["access"]["value"], cookies["refresh"]["value"]
    assert refresh not in page.content()
    assert access not in page.content()

    # The session is the browser's, not the Next.js server's.
    sessions = httpx.get(f"{server}/api/sessions/", headers={"Authorization": f"Bearer {access}"}, trust_env=False)
    assert sessions.json()["results"][0]["device"] == "HeadlessChrome on Linux"

    # Five pages at once, after the access token has run out: nobody is signed out.
    context.clear_cookies(name="access")
    pages = [context.new_page() for _ in range(5)]
    for other in pages:
        other.evaluate(f"setTimeout(() => location.assign({url!r}))")
    for other in pages:
        expect(other.get_by_role("heading")).to_have_text("Hello ada")
    renewed = {cookie["name"]: cookie["value"] for cookie in context.cookies()}
    assert renewed.keys() == {"access", "refresh"}
    assert renewed["refresh"] != refresh

    page.reload()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert context.cookies() == []
    me = httpx.get(f"{server}/api/me/", headers={"Authorization": f"Bearer {renewed['access']}"}, trust_env=False)
    assert me.json()["code"] == "token_revoked"
