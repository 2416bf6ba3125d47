"""The server below a path, PUBLIC_URL=https://example.com/sso: the proxy passes the path on, or strips it."""

import json
import re
from collections.abc import Iterator
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from django.test import override_settings

from config.serving.outermost import below
from tests.server import address_of_database, serve

SSO = "http://localhost/sso"


class Proxy:
    """A browser and the proxy in front of the server."""

    def __init__(self, url: str, path: str) -> None:
        self.url, self.path = url, path
        self.cookies = CookieJar()

    def ask(self, address: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
        """Request an address of the site, such as /sso/auth/login; return the status, the headers and the body."""
        assert address.startswith("/sso"), address
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + self.path + address.removeprefix("/sso"), data)
        request.add_header("Host", "localhost")
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name, value)
        try:
            with build_opener(HTTPCookieProcessor(CookieJar())).open(request) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except HTTPError as answer:
            with answer:
                return answer.code, answer.headers, answer.read().decode()


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    with serve(address_of_database(), PUBLIC_URL=SSO, WORKERS="1", REFRESH_COOKIE_SECURE="false") as url:
        yield url


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/sso", ""], ids=["passed on", "taken off"])
def test_everything_is_below_the_path_prefix(server: str, path: str) -> None:
    proxy = Proxy(server, path)
    status, headers, body = proxy.ask(
        "/sso/auth/register", {"username": "ada", "password": "the analytical engine"}, Origin=server
    )
    assert status == 403  # which the proxy does not say to be its own
    status, headers, body = proxy.ask("/sso/auth/register", {"username": "ada", "password": "the analytical engine"})
    assert status == 201, body
    assert "; Path=/sso/auth;" in headers["Set-Cookie"]
    access, cookie = json.loads(body)["accessToken"], headers["Set-Cookie"].partition(";")[0]
    assert proxy.ask("/sso/auth/refresh-token/", {}, Cookie=cookie)[0] == 200
    status, _, body = proxy.ask("/sso/api/sessions/?pageSize=1", Authorization=f"Bearer {access}")
    assert (status, len(json.loads(body)["results"])) == (200, 1)

    status, headers, body = proxy.ask("/sso/")
    assert status == 200
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', body)
    assert len(links) > 5
    for link in links:
        assert proxy.ask(link.partition("#")[0])[0] == 200, link

    page = {"Accept": "text/html"}
    for address in (
        "/sso/api/docs/",
        "/sso/reset-password",
        "/sso/verify-email",
        "/sso/client",
        "/sso/admin/login/",
    ):
        status, headers, body = proxy.ask(address, **page)
        assert status == 200
        assert not re.findall(r'(?:href|src|action)="(/(?!sso/)[^"]*)"', body), address
    assert "; Path=/sso/" in headers["Set-Cookie"]  # of the CSRF cookie
    status, _, body = proxy.ask("/sso/nowhere", **page)
    assert (status, 'href="/sso/"' in body) == (404, True)

    status, _, body = proxy.ask("/sso/.well-known/oauth-authorization-server", Host="127.0.0.1")
    metadata = json.loads(body)
    assert metadata["issuer"] == SSO
    assert [
        name for name, value in metadata.items() if str(value).startswith("http") and not value.startswith(SSO)
    ] == []
    assert proxy.ask(metadata["jwks_uri"].removeprefix("http://localhost"))[0] == 200
    _, _, schema = proxy.ask("/sso/api/schema/?format=json")
    assert json.loads(schema)["servers"] == [{"url": "/sso"}]
    assert proxy.ask("/sso/health/live")[0] == 200


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/sso/auth", "/auth"), ("/auth", "/auth"), ("/sso", ""), ("/sso/", "/"), ("/ssoauth", "/ssoauth"), ("", "")],
)
def test_path_prefix_is_removed_if_the_proxy_keeps_it(path: str, expected: str) -> None:
    assert below(path) == path
    with override_settings(FORCE_SCRIPT_NAME="/sso"):
        assert below(path) == expected
