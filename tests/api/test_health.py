"""The health checks of load balancers."""

from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient

from tests.server import serve


@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/plain", "nonsense"])
def test_running_process_is_live(accept: str) -> None:
    response = APIClient().get("/health/live", HTTP_ACCEPT=accept)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


def test_server_is_ready_while_the_database_answers(
    db: None, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        response = APIClient().get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the database that is away is PostgreSQL in any run")
def test_server_is_live_but_not_ready_while_the_database_is_away() -> None:
    with (
        serve("postgresql://nobody@127.0.0.1:1/nowhere") as url,
        closing(HTTPConnection(urlsplit(url).netloc)) as server,
    ):
        server.request("GET", "/health/live")
        assert server.getresponse().read() == b'{"status":"ok"}'
        server.request("GET", "/health/ready")
        response = server.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert b'"code":"unavailable"' in response.read()


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/live/", "/health/ready/"])
def test_health_is_not_redirected_to_tls(db: None, path: str, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert APIClient().get("/api/").status_code == 301
    assert APIClient().get(path).status_code == 200
    assert APIClient().head(path).status_code == 200


@pytest.mark.parametrize("host", ["10.42.0.7:8000", "[fd00::7]:8000", "latchkey-7d9f.default.svc", "evil.example", ""])
@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/live/", "/health/ready/"])
def test_health_answers_for_any_host(db: None, path: str, host: str) -> None:
    assert APIClient().get("/api/me/", headers={"host": host}).status_code == 400
    response = APIClient().get(path, headers={"host": host})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
