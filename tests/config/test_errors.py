from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path, re_path

from config import urls
from config.serving import errors

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def fail(request: HttpRequest, kind: str) -> HttpResponse:
    raise {"400": SuspiciousOperation, "403": PermissionDenied, "500": ValueError}[kind]


def lose_the_database(request: HttpRequest) -> HttpResponse:
    """Change the admin's session, which is saved after the view, and make the database read-only."""
    request.session["changed"] = True
    with connection.cursor() as cursor:
        cursor.execute(READ_ONLY[connection.vendor, True])
    return HttpResponse()


READ_ONLY = {
    ("sqlite", True): "PRAGMA query_only = ON",
    ("sqlite", False): "PRAGMA query_only = OFF",
    ("postgresql", True): "SET default_transaction_read_only = on",
    ("postgresql", False): "SET default_transaction_read_only = off",
}

urlpatterns = [
    path("fail/<kind>", fail),
    path("lose-the-database", lose_the_database),
    path("api/fail/<kind>", fail),
    re_path(r"^(?:api|auth)(?:/|$)", errors.unknown_path),
]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500

CODES = [("400", "bad_request"), ("403", "permission_denied"), ("500", "error")]


@pytest.fixture
def failing(client: Client) -> Client:
    client.raise_request_exception = False
    return client


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("kind", "code"), CODES)
def test_error_is_json_for_programs(failing: Client, kind: str, code: str) -> None:
    response = failing.post(f"/fail/{kind}", headers={"Accept": "*/*"})
    assert (response.status_code, response.json()["code"]) == (int(kind), code)
    assert response.json()["detail"].endswith(".")


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("kind", "code"), CODES)
def test_error_is_a_page_for_browsers_outside_the_api(failing: Client, kind: str, code: str) -> None:
    page = failing.get(f"/fail/{kind}", headers={"Accept": BROWSER})
    assert (page.status_code, page["Content-Type"]) == (int(kind), "text/html; charset=utf-8")
    answer = failing.get(f"/api/fail/{kind}", headers={"Accept": BROWSER})
    assert (answer.status_code, answer.json()["code"]) == (int(kind), code)


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
def test_database_lost_after_the_view_is_503(failing: Client) -> None:
    try:
        response = failing.get("/lose-the-database", headers={"Accept": BROWSER})
    finally:
        with connection.cursor() as cursor:
            cursor.execute(READ_ONLY[connection.vendor, False])
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response["Retry-After"] == "5"
    assert not response.cookies


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("path", ["/auth", "/api/nowhere", "/auth/nowhere/", "/api/%00", "/auth/login/more"])
def test_unknown_path_of_the_api_is_json(settings: Any, client: Client, debug: bool, path: str) -> None:
    settings.DEBUG = debug
    for response in (client.get(path, headers={"Accept": BROWSER}), Client(enforce_csrf_checks=True).post(path)):
        assert response.status_code == 404
        assert response.json() == {"detail": "Not found.", "code": "not_found"}


def test_unknown_path_is_a_page_for_browsers(client: Client) -> None:
    assert client.get("/nowhere").json() == {"detail": "Not found.", "code": "not_found"}
    page = client.get("/nowhere", headers={"Accept": BROWSER})
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_unknown_host_is_400(client: Client) -> None:
    response = client.get("/api/me/", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
