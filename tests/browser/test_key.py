"""A session that is bound to a key: copied tokens are useless, and the browser stays signed in."""

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.people import register
from tests.browser.test_client import REFRESH, cookie_of, open_client

GUARDED = ("/api/me/", "/api/sessions/", "/api/security-events/", "/auth/second-factor")


def asked_with(page: Page) -> dict[str, str]:
    """Return the headers of the page's request with its access token."""
    with page.expect_request("**/api/me/") as asked:
        page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')
    headers: dict[str, str] = asked.value.all_headers()
    return headers


def refusal(url: str, method: str = "GET", **headers: str) -> str:
    """Send a thief's request; return the code of the refusal."""
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(url, method=method, headers=headers))
    with refused.value as answer:
        assert answer.status == 401
        assert "Set-Cookie" not in answer.headers
        return str(json.load(answer)["code"])


def test_copied_cookie_and_tokens_are_refused_while_the_browser_continues(visitor: Visitor, site: str) -> None:
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    for _ in range(2):
        sent = asked_with(page)
        scheme, token = sent["authorization"].split(" ")
        assert scheme == "DPoP"
        cookie = cookie_of(visitor.context)
        assert refusal(f"{site}{REFRESH}", "POST", Cookie=cookie) == "dpop_proof_required"
        assert refusal(f"{site}/auth/logout", "POST", Cookie=cookie, Authorization=f"DPoP {token}")
        for path in GUARDED:
            assert refusal(f"{site}{path}", Authorization=f"Bearer {token}") == "dpop_proof_required"
            # The copied proof has been used, and was for one path.
            read = {"Authorization": f"DPoP {token}", "DPoP": sent["dpop"]}
            assert refusal(f"{site}{path}", **read) == "invalid_dpop_proof"
        page.locator("#renew").click()
        expect(page.locator("#output")).to_contain_text("done")
    asked_with(page)


def test_key_cannot_be_exported(visitor: Visitor) -> None:
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    refusal = page.evaluate("""async () => {
      const open = indexedDB.open("latchkey");
      await new Promise((done) => (open.onsuccess = done));
      const get = open.result.transaction("keys").objectStore("keys").get("latchkey");
      await new Promise((done) => (get.onsuccess = done));
      const { privateKey } = get.result;
      return crypto.subtle.exportKey("jwk", privateKey).then(() => "exported", ({ name }) => name);
    }""")
    assert refusal == "InvalidAccessError"


def test_lost_key_requires_a_new_sign_in(visitor: Visitor) -> None:
    visitor.expect_complaint("401 (Unauthorized)")
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    visitor.context.pages[0].close()
    page.evaluate("indexedDB.deleteDatabase('latchkey')")  # as Safari does
    page.reload()
    expect(page.locator("#output")).to_contain_text("key_lost")
    page.close()
    asked_with(open_client(visitor))
