"""The client against the real server: racing tabs, lost responses, a laptop that wakes, an unreachable server."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import BrowserContext, Page, Response, Route, expect

from tests.browser.conftest import Chromium, Visit, Visitor
from tests.browser.people import PHONE, fill_in, register, sign_in, wait_for_account
from tests.clients import PASSWORD, claims_of
from tests.server import address_of_database, free_port, serve

REFRESH = "/auth/refresh-token"
LIFE = 4  # seconds
ONCE = 2  # requests for one refresh after a long sleep: the first is refused, and brings the nonce for the second


@pytest.fixture
def calls(chromium: Chromium, visitor: Visitor) -> Counter[str]:
    """Count the API calls of the visitor's pages, by path."""
    counter: Counter[str] = Counter()
    chromium.run(visitor.context.on, "request", lambda request: counter.update([urlsplit(request.url).path]))
    return counter


@pytest.fixture(scope="module")
def short_server(django_db_setup: None) -> Iterator[str]:
    with serve(address_of_database(), ACCESS_TOKEN_LIFETIME=str(LIFE)) as url:
        yield url


@pytest.fixture
def short(transactional_db: None, short_server: str) -> str:
    """Return the base URL of a server whose access tokens are short-lived."""
    return short_server


def open_client(visitor: Visitor, username: str = "ann") -> Page:
    """Open the client's page, signed in."""
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed out")
    fill_in(page, username, PASSWORD)
    expect(page.locator("#state")).to_have_text("signed in")
    return page


def renew_together(first: Page, *others: Page) -> None:
    """Make the first page renew its token, and the others before the first has its response."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    first.route(f"**{REFRESH}", hold, times=1)
    with first.expect_request(f"**{REFRESH}"):
        first.evaluate(click("renew"))
    for page in others:
        page.evaluate(click("renew"))
    held[0].continue_()
    for page in (first, *others):
        expect(page.locator("#output")).to_contain_text("done")
        page.locator("#output").evaluate("output => output.replaceChildren()")


def click(button: str) -> str:
    return f"document.getElementById('{button}').click()"


def an_hour_ago() -> datetime:
    """When a page that is to wake now went to sleep: proofs from ahead of the server's clock would be refused."""
    return datetime.now(UTC) - timedelta(hours=1)


def cookie_of(context: BrowserContext) -> str:
    return next(f"{cookie['name']}={cookie['value']}" for cookie in context.cookies())


def answered_but_lost(site: str, context: BrowserContext) -> Callable[[Route], None]:
    """Let the server respond to the browser's request, and lose the response with its cookie."""

    def lose(route: Route) -> None:
        headers = {"Cookie": cookie_of(context), "DPoP": route.request.headers["dpop"]}
        with urlopen(Request(f"{site}{REFRESH}", method="POST", headers=headers)) as answer:
            assert answer.status == 200
        route.abort("connectionreset")

    return lose


def test_page_shows_the_code_that_runs(visitor: Visitor, page: Page) -> None:
    page.goto("/client")
    source = page.context.request.get("/static/example.js").text()
    expect(page.locator("#code")).to_have_text(source)


def test_page_does_what_it_says(visitor: Visitor) -> None:
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')
    page.locator("#logout").click()
    expect(page.locator("#state")).to_have_text("signed out")


def test_tabs_that_renew_at_once_send_one_refresh(visitor: Visitor, calls: Counter[str]) -> None:
    register(visitor.open())
    pages = [visitor.open("/client") for _ in range(4)]
    for page in pages:
        expect(page.locator("#state")).to_have_text("signed in")
    calls.clear()
    renew_together(*pages)
    assert calls[REFRESH] == 1
    for page in pages:
        page.locator("#fetch").click()
        expect(page.locator("#output")).to_contain_text('"username": "ann"')
    assert calls[REFRESH] == 1


@pytest.mark.parametrize("missing", ["navigator.locks", "BroadcastChannel"])
def test_tabs_without_web_locks_stay_signed_in(visitor: Visitor, calls: Counter[str], missing: str) -> None:
    owner = "Navigator.prototype" if missing == "navigator.locks" else "globalThis"
    name = missing.rpartition(".")[2]
    visitor.context.add_init_script(f"Object.defineProperty({owner}, '{name}', {{value: undefined}})")
    register(visitor.open())
    pages = [visitor.open("/client") for _ in range(3)]
    for page in pages:
        expect(page.locator("#state")).to_have_text("signed in")
    for _ in range(2):
        renew_together(*pages)
    for page in pages:
        page.locator("#fetch").click()
        expect(page.locator("#output")).to_contain_text('"username": "ann"')


def test_tokens_are_renewed_before_expiry_by_one_tab_at_a_time(short: str, visit: Visit) -> None:
    visitor = visit(base_url=short)
    register(visitor.open())
    pages = [visitor.open("/client") for _ in range(2)]
    for page in pages:
        expect(page.locator("#state")).to_have_text("signed in")
    renewed: list[Response] = []

    def is_seventh(answer: Response) -> bool:
        if REFRESH in answer.url and answer.ok:
            renewed.append(answer)
        return len(renewed) == 7

    visitor.context.wait_for_event("response", is_seventh)
    issued = [claims_of(answer.json()["accessToken"])["iat"] for answer in renewed]
    # Each comes after 0.7 to 0.9 of a lifetime. If each tab renewed for itself, three such times would bring seven.
    assert issued[-1] - issued[0] > 3 * LIFE
    pages[0].locator("#fetch").click()
    expect(pages[0].locator("#output")).to_contain_text('"username": "ann"')


def test_expired_token_is_renewed_and_the_request_repeated(short: str, visit: Visit) -> None:
    visitor = visit(base_url=short)
    visitor.expect_complaint("401 (Unauthorized)")
    register(visitor.open())
    page = visitor.context.new_page()
    page.clock.set_fixed_time(datetime.now(UTC))  # for this page, no time passes
    page.goto("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    visitor.context.pages[0].close()
    visitor.open().wait_for_timeout((LIFE + 1) * 1000)
    with page.expect_response(lambda answer: answer.status == 401), page.expect_request(f"**{REFRESH}"):
        page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')


def test_laptop_that_wakes_after_an_hour_renews_before_its_request(visitor: Visitor, calls: Counter[str]) -> None:
    page = visitor.open()
    register(page)
    page.close()
    page = visitor.context.new_page()
    page.clock.install(time=an_hour_ago())
    page.goto("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    calls.clear()
    page.clock.set_system_time(datetime.now(UTC))
    page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')
    assert calls == {REFRESH: ONCE, "/api/me/": 1}


def test_ten_tabs_that_wake_after_an_hour_send_one_refresh(visitor: Visitor, calls: Counter[str]) -> None:
    page = visitor.open()
    register(page)
    page.close()
    pages = []
    for _ in range(10):
        page = visitor.context.new_page()
        page.clock.install(time=an_hour_ago())
        page.goto("/client")
        pages.append(page)
    for page in pages:
        expect(page.locator("#state")).to_have_text("signed in")
    calls.clear()
    for page in pages:
        page.clock.set_system_time(datetime.now(UTC))
    for page in pages:
        page.evaluate(click("fetch"))
    for page in pages:
        expect(page.locator("#output")).to_contain_text('"username": "ann"')
    assert calls == {REFRESH: ONCE, "/api/me/": 10}


def test_interrupted_response_loses_nothing(visitor: Visitor, site: str, calls: Counter[str]) -> None:
    visitor.expect_complaint("ERR_CONNECTION_RESET")
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")
    calls.clear()
    page.route(f"**{REFRESH}", answered_but_lost(site, visitor.context), times=1)
    page.locator("#renew").click()
    expect(page.locator("#output")).to_contain_text("done")
    assert calls[REFRESH] == 2
    page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')
    page.reload()
    expect(page.locator("#state")).to_have_text("signed in")


def test_response_without_its_body_loses_nothing(visitor: Visitor) -> None:
    visitor.expect_complaint("ERR_CONNECTION_RESET")
    register(visitor.open())
    page = visitor.open("/client")
    expect(page.locator("#state")).to_have_text("signed in")

    def lose_body(route: Route) -> None:
        route.fetch()  # the cookie is kept
        route.abort("connectionreset")

    page.route(f"**{REFRESH}", lose_body, times=1)
    page.locator("#renew").click()
    expect(page.locator("#output")).to_contain_text("done")
    page.locator("#fetch").click()
    expect(page.locator("#output")).to_contain_text('"username": "ann"')


def test_temporary_outage_signs_nobody_out(visit: Visit, database_url: str) -> None:
    port = str(free_port())

    def start() -> AbstractContextManager[str]:
        return serve(database_url, PORT=port)

    with ExitStack() as running:
        visitor = visit(base_url=running.enter_context(start()))
        visitor.expect_complaint("ERR_CONNECTION_REFUSED")
        register(visitor.open())
        page = visitor.open("/client")
        expect(page.locator("#state")).to_have_text("signed in")
        running.close()
        page.locator("#fetch").click()
        expect(page.locator("#output")).to_contain_text("Failed to fetch")
        page.locator("#renew").click()
        expect(page.locator("#state")).to_have_text("signed in")
        running.enter_context(start())
        page.locator("#fetch").click()
        expect(page.locator("#output")).to_contain_text('"username": "ann"')
        page.reload()
        expect(page.locator("#state")).to_have_text("signed in")


def test_page_opened_during_an_outage_continues_after_it(visitor: Visitor, site: str) -> None:
    visitor.expect_complaint("503 (Service Unavailable)")
    register(visitor.open())
    away = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"detail": "Away.", "code": "unavailable"}}
    page = visitor.context.new_page()
    page.route(f"**{REFRESH}", lambda route: route.fulfill(**away), times=2)
    page.goto("/")
    wait_for_account(page)


def test_account_page_says_that_the_server_is_out_of_reach(visitor: Visitor) -> None:
    visitor.expect_complaint("ERR_CONNECTION_REFUSED", "ERR_FAILED")
    page = visitor.open()
    register(page)
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_text("Change the username").first.click()
    page.get_by_label("New username").fill("anne")
    page.keyboard.press("Enter")
    alert = page.locator("#change-username [role=alert]")
    expect(alert).to_have_text("The server can't be reached. Try again in a moment.")
    page.unroute("**/api/**")
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_have_text("anne")


def test_session_revoked_elsewhere_is_signed_out_at_the_next_click(visit: Visit) -> None:
    visitor = visit()
    visitor.expect_complaint("401 (Unauthorized)")
    register(visitor.open())
    page, other_tab = visitor.open("/client"), visitor.open("/")
    expect(page.locator("#state")).to_have_text("signed in")
    elsewhere = visit(PHONE).open()
    sign_in(elsewhere)
    elsewhere.get_by_role("button", name="Sign out all others").click()
    elsewhere.get_by_role("button", name="Sign them out").click()
    expect(elsewhere.get_by_role("status")).to_have_text("Other devices signed out: 1.")

    page.locator("#fetch").click()
    expect(page.locator("#state")).to_have_text("signed out")
    expect(page.locator("#output")).to_contain_text("signed out: token_revoked")
    expect(other_tab.get_by_text("Your session has ended. Sign in again.")).to_be_visible()


def test_sign_out_in_one_tab_reaches_all_tabs(visitor: Visitor) -> None:
    page = visitor.open()
    register(page)
    others = [visitor.open("/"), visitor.open("/client")]
    wait_for_account(others[0])
    expect(others[1].locator("#state")).to_have_text("signed in")
    page.get_by_role("button", name="Sign out").click()
    expect(others[0].get_by_role("heading", name="Sign in")).to_be_visible()
    expect(others[1].locator("#state")).to_have_text("signed out")


def test_sign_in_in_one_tab_reaches_all_tabs(visitor: Visitor) -> None:
    page = visitor.open()
    register(page)
    page.get_by_role("button", name="Sign out").click()
    other = visitor.open("/client")
    expect(other.locator("#state")).to_have_text("signed out")
    fill_in(page, "ann", PASSWORD)
    expect(other.locator("#state")).to_have_text("signed in")


def test_another_user_in_one_tab_replaces_the_user_in_all_tabs(visit: Visit) -> None:
    register(visit().open(), "bob")
    visitor = visit()
    page, other = visitor.open(), visitor.open()
    register(page)
    other.goto("/")
    expect(other.locator("#who")).to_have_text("ann")
    page.goto("/client")
    page.locator("#logout").click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    fill_in(page, "bob", PASSWORD)
    expect(other.locator("#who")).to_have_text("bob")
    expect(other.get_by_text("ann@example.com")).to_have_count(0)


def change_password(page: Page) -> None:
    page.get_by_text("Change the password").first.click()
    form = page.locator("#change-password")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("New password").fill("a new and longer one")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Your password has been changed")


def test_password_change_keeps_this_browsers_tabs_signed_in(visitor: Visitor, calls: Counter[str]) -> None:
    page = visitor.open()
    register(page)
    other = visitor.open("/client")
    expect(other.locator("#state")).to_have_text("signed in")
    before = cookie_of(visitor.context)
    calls.clear()
    change_password(page)
    expect(page.locator("#devices > li")).to_have_count(1)
    other.locator("#fetch").click()
    expect(other.locator("#output")).to_contain_text('"username": "ann"')
    assert calls[REFRESH] == 0  # both have the new token
    assert cookie_of(visitor.context) != before
    other.locator("#renew").click()
    expect(other.locator("#output")).to_contain_text("done")
    page.reload()
    expect(page.locator("#who")).to_have_text("ann")


def test_request_in_flight_during_a_password_change_is_repeated(visitor: Visitor) -> None:
    visitor.expect_complaint("401 (Unauthorized)")
    page = visitor.open()
    register(page)
    other = visitor.open("/client")
    expect(other.locator("#state")).to_have_text("signed in")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    other.route("**/api/me/", hold, times=1)
    with other.expect_request("**/api/me/"):
        other.locator("#fetch").click()
    change_password(page)
    with other.expect_response(lambda answer: answer.status == 401):
        held[0].continue_()
    expect(other.locator("#output")).to_contain_text('"username": "ann"')
    expect(other.locator("#output")).not_to_contain_text("signed out")


def test_reuse_of_a_stolen_token_signs_out_and_says_why(visit: Visit, database_url: str) -> None:
    # With a key, nobody could use it.
    with serve(database_url, REFRESH_GRACE_PERIOD="0", REFRESH_LATE_RETRY="off", DPOP="off") as url:
        visitor = visit(base_url=url)
        visitor.expect_complaint("401 (Unauthorized)", "ERR_CONNECTION_REFUSED")
        page = visitor.open()
        register(page)
        stolen = cookie_of(visitor.context)
        with urlopen(Request(f"{url}{REFRESH}", method="POST", headers={"Cookie": stolen})) as answer:
            assert answer.status == 200
        page.reload()
        expect(page.get_by_text("its sign-in token was used twice")).to_be_visible()
        fill_in(page, "ann", PASSWORD)
        expect(page.locator("#events [data-kind]")).to_contain_text(["signed in", "refresh token used twice"])
        expect(page.locator("#events .dot.warning")).to_have_count(1)
