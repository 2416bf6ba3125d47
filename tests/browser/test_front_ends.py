"""The client in other front ends: on another port, on another site, with a second API."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visit, Visitor
from tests.browser.front_ends import Site, site
from tests.browser.people import register
from tests.client.snippets import placed, snippets
from tests.clients import PASSWORD
from tests.server import address_of_database, free_port, serve


@pytest.fixture(scope="module")
def front() -> Iterator[Site]:
    with site() as started:
        yield started


@pytest.fixture
def sites(front: Site) -> Iterator[list[Site]]:
    """Yield a front end, the API that it uses, and an unrelated site."""
    with site() as api, site() as stranger:
        yield [front, api, stranger]


@pytest.fixture(scope="module")
def trusting_server(django_db_setup: None, front: Site) -> Iterator[str]:
    with serve(address_of_database(), TRUSTED_ORIGINS=f"{front.url},{front.localhost}") as url:
        yield url


@pytest.fixture
def trusting(transactional_db: None, trusting_server: str) -> str:
    """Return the base URL of a server that trusts the front end, under both of its names."""
    return trusting_server


def open_front_end(visitor: Visitor, url: str, server: str, *origins: str) -> Page:
    """Open a page that has the client, as `client`."""
    page = visitor.open(url)
    page.evaluate(
        """async ([base, origins]) => {
          const { Latchkey } = await import("/latchkey.js");
          window.client = new Latchkey({ base, origins });
        }""",
        [server, list(origins)],
    )
    return page


def evaluate(page: Page, call: str) -> Any:
    """Return the result of a client call, or its error's name, code and message."""
    return page.evaluate(
        "async (call) => { try { return await new Function(`return ${call}`)(); }"
        " catch ({ name, code, message }) { return { name, code, message }; } }",
        call,
    )


SIGN_IN = f"client.login('ann', '{PASSWORD}')"


def test_page_on_another_port_signs_in_and_stays_signed_in(visit: Visit, sites: list[Site], trusting: str) -> None:
    register(visit(base_url=trusting).open())
    visitor = visit(base_url=trusting)
    front = sites[0].url
    page = open_front_end(visitor, front, trusting)
    assert evaluate(page, "client.restore()") is False
    assert evaluate(page, SIGN_IN)["username"] == "ann"
    page.evaluate("localStorage.clear()")  # as Safari does
    page = open_front_end(visitor, front, trusting)
    assert evaluate(page, "client.restore()") is True
    assert evaluate(page, "client.user.username") == "ann"
    assert evaluate(page, "client.json('/api/me/')")["username"] == "ann"
    assert evaluate(page, "client.logout().then(() => client.status)") == "out"
    page = open_front_end(visitor, front, trusting)
    assert evaluate(page, "client.restore()") is False


def test_second_front_end_restores_the_session_on_its_first_visit(
    visit: Visit, sites: list[Site], trusting: str
) -> None:
    visitor = visit(base_url=trusting)
    page = open_front_end(visitor, sites[0].url, trusting)
    assert evaluate(page, "client.restore()") is False
    register(visitor.open())
    page = open_front_end(visitor, sites[0].url, trusting)
    assert evaluate(page, "client.restore()") is True


def test_token_is_sent_to_listed_origins_only(visit: Visit, sites: list[Site], trusting: str) -> None:
    front, api, stranger = sites
    api.away = f"{stranger.url}/taken"
    register(visit(base_url=trusting).open())
    page = open_front_end(visit(base_url=trusting), front.url, trusting, api.url)
    assert evaluate(page, SIGN_IN)["username"] == "ann"
    token = f"Bearer {evaluate(page, 'client.token()')}"
    for url in (f"{api.url}/orders", f"{api.url}/away", f"{stranger.url}/asked"):
        assert evaluate(page, f"client.fetch('{url}').then(({{ status }}) => status)") == 200
    assert api.heard == [("/orders", token), ("/away", token)]
    assert stranger.heard == [("/taken", None), ("/asked", None)]


def test_wrong_password_refused_origin_and_outage_are_different_errors(
    visit: Visit, sites: list[Site], trusting: str
) -> None:
    front, api, stranger = sites
    visitor = visit(base_url=trusting)
    visitor.expect_complaint("401 (Unauthorized)", "blocked by CORS policy", "ERR_FAILED", "ERR_CONNECTION_REFUSED")
    page = open_front_end(visitor, front.url, trusting, api.url)
    wrong = evaluate(page, "client.login('ann', 'wrong')")
    assert (wrong["name"], wrong["code"]) == ("Refused", "invalid_credentials")

    page = open_front_end(visitor, stranger.url, trusting)
    refused = evaluate(page, SIGN_IN)
    assert (refused["name"], refused["code"]) == ("Misconfigured", "origin_refused")
    assert f"Add {stranger.url} to its TRUSTED_ORIGINS" in refused["message"]

    page = open_front_end(visitor, front.url, f"http://127.0.0.1:{free_port()}")
    assert evaluate(page, SIGN_IN) == {"name": "TypeError", "code": None, "message": "Failed to fetch"}

    page = open_front_end(visitor, front.url, trusting, api.url)
    refused = evaluate(page, f"client.restore().then(() => client.fetch('{api.url}/closed'))")
    assert (refused["name"], refused["code"]) == ("Misconfigured", "origin_refused")


def test_cookie_that_the_browser_drops_is_an_error_at_sign_in(visit: Visit, sites: list[Site], trusting: str) -> None:
    register(visit(base_url=trusting).open())
    visitor = visit(base_url=trusting)
    page = open_front_end(visitor, sites[0].localhost, trusting)  # another site than 127.0.0.1
    failed = evaluate(page, SIGN_IN)
    assert (failed["name"], failed["code"]) == ("Misconfigured", "cookie_not_kept")
    assert "localhost and 127.0.0.1 differ" in failed["message"]
    assert evaluate(page, "client.status") == "out"


def test_cookie_works_on_another_site_with_the_setting_in_the_error(
    visit: Visit, sites: list[Site], database_url: str
) -> None:
    front = sites[0].localhost
    with serve(database_url, TRUSTED_ORIGINS=front, REFRESH_COOKIE_SAMESITE="none") as url:
        register(visit(base_url=url).open())
        visitor = visit(base_url=url)
        page = open_front_end(visitor, front, url)
        assert evaluate(page, SIGN_IN)["username"] == "ann"
        page = open_front_end(visitor, front, url)
        assert evaluate(page, "client.restore()") is True
        assert evaluate(page, "client.logout().then(() => client.status)") == "out"


@pytest.mark.parametrize("snippet", snippets("latchkey-client"))
def test_snippet_in_the_docs_runs(visit: Visit, sites: list[Site], trusting: str, snippet: str) -> None:
    front, api, _ = sites
    visitor = visit(base_url=trusting)
    visitor.expect_complaint("401 (Unauthorized)", "400 (Bad Request)")
    account = {"username": "ada", "password": "the analytical engine"}
    assert visitor.context.request.post("/auth/register", data=account).status == 201
    visitor.context.clear_cookies()
    page = visitor.open(front.url)
    page.evaluate(
        "(code) => import(`data:text/javascript,${encodeURIComponent(code)}`)",
        placed(snippet, front.url, trusting, api.url),
    )
