"""Pages that come back from the back/forward cache, in a whole Chromium: what happened meanwhile, no message tells."""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Chromium, Visit, Visitor
from tests.browser.people import PHONE, register
from tests.clients import PASSWORD
from tests.tools import WHOLE_CHROMIUM

REFRESH = "/auth/refresh-token"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Return one that caches pages as people's does: Playwright switches that off."""
    chromium = Chromium()
    cached = ["--disable-back-forward-cache"]
    chromium.run(chromium.start, "--headless=new", program=WHOLE_CHROMIUM, without=cached)
    yield chromium
    chromium.stop()


def leave(page: Page) -> None:
    page.evaluate("window.shown = []; addEventListener('pageshow', ({ persisted }) => shown.push(persisted))")
    page.goto("/health/live")


def come_back(page: Page) -> Counter[str]:
    """Go back to the page that was left, as it was; count what it asks of the API then, by path."""
    asked: Counter[str] = Counter()
    page.on("request", lambda request: asked.update([urlsplit(request.url).path]))
    page.go_back(wait_until="commit")
    assert page.evaluate("window.shown") == [True]
    return asked


@pytest.fixture
def signed_in(chromium: Chromium, visitor: Visitor) -> Page:
    """Return the client's page, signed in, in the only tab."""

    def open_it() -> Page:
        page = visitor.open()
        register(page)
        page.goto("/client")
        expect(page.locator("#state")).to_have_text("signed in")
        return page

    page: Page = chromium.run(open_it)
    return page


def test_page_that_comes_back_renews_once_and_goes_on(chromium: Chromium, signed_in: Page) -> None:
    leave(signed_in)
    with signed_in.expect_response(f"**{REFRESH}"):
        asked = come_back(signed_in)
    signed_in.locator("#fetch").click()
    expect(signed_in.locator("#output")).to_contain_text('"username": "ann"')
    assert (asked[REFRESH], asked["/api/me/"]) == (1, 1)


def test_page_that_comes_back_knows_that_its_session_has_ended(
    chromium: Chromium, visit: Visit, visitor: Visitor, signed_in: Page
) -> None:
    visitor.expect_complaint("401 (Unauthorized)")
    leave(signed_in)
    phone = visit(PHONE).context.request
    answer = phone.post("/auth/login", data={"username": "ann", "password": PASSWORD}).json()
    bearer = {"Authorization": f"Bearer {answer['accessToken']}"}
    assert phone.post("/api/sessions/revoke-others/", headers=bearer).json() == {"revoked": 1}
    come_back(signed_in)
    expect(signed_in.locator("#state")).to_have_text("signed out")
    expect(signed_in.locator("#output")).to_contain_text("signed out: token_revoked")


def test_page_that_comes_back_knows_of_a_sign_in(chromium: Chromium, visitor: Visitor, signed_in: Page) -> None:
    signed_in.locator("#logout").click()
    expect(signed_in.locator("#state")).to_have_text("signed out")
    leave(signed_in)
    visitor.context.request.post("/auth/login", data={"username": "ann", "password": PASSWORD})
    come_back(signed_in)
    expect(signed_in.locator("#state")).to_have_text("signed in")


def test_page_that_comes_back_signed_out_stays_as_it_was(chromium: Chromium, visitor: Visitor, signed_in: Page) -> None:
    visitor.expect_complaint("401 (Unauthorized)")
    signed_in.locator("#logout").click()
    expect(signed_in.locator("#state")).to_have_text("signed out")
    signed_in.get_by_label("Username").fill("half a na")
    leave(signed_in)
    with signed_in.expect_response(f"**{REFRESH}"):
        come_back(signed_in)
    expect(signed_in.get_by_label("Username")).to_have_value("half a na")
    expect(signed_in.locator("#output")).not_to_contain_text("refresh_token_missing")


def test_sign_out_in_another_tab_reaches_a_page_that_was_left(visitor: Visitor, signed_in: Page) -> None:
    leave(signed_in)
    other = visitor.open("/client")
    other.locator("#logout").click()
    expect(other.locator("#state")).to_have_text("signed out")
    signed_in.go_back(wait_until="commit")
    expect(signed_in.locator("#state")).to_have_text("signed out")
