from collections.abc import Callable
from typing import Any

import pytest
from csp.decorators import csp_update
from django.db import InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import Client, RequestFactory
from pytest_django import Settings
from time_machine import TimeMachineFixture

from config.serving.middleware import (
    MOST_REFUSED,
    ClientAddress,
    ContentSecurityPolicy,
    OptionalTrailingSlash,
    Refusals,
    Unavailable,
    _logged,
)
from tokens.http.proofs import SENT_PATH


def sender(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.scheme}://{request.get_host()} {request.META['REMOTE_ADDR']}")


def body(response: HttpResponseBase | None) -> str:
    assert isinstance(response, HttpResponse)
    return response.content.decode()


@pytest.mark.parametrize(
    ("origin", "is_trusted"),
    [
        ("https://app.example", True),
        ("https://app.example.evil.example", False),
        ("https://sub.app.example", False),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
@pytest.mark.parametrize("path", ["/api/me/", "/auth/second-factor"])
def test_only_trusted_origins_may_read_a_response(
    client: Client, settings: Any, path: str, origin: str, is_trusted: bool
) -> None:
    settings.CORS_ALLOWED_ORIGINS = settings.TOKENS_TRUSTED_ORIGINS = ["https://app.example"]
    asked = {"origin": origin, "access-control-request-method": "GET"}
    for response in (client.get(path, headers={"origin": origin}), client.options(path, headers=asked)):
        assert response.get("Access-Control-Allow-Origin") == (origin if is_trusted else None)
        assert response.get("Access-Control-Allow-Credentials") == ("true" if is_trusted else None)


APP = "https://app.example"
"""The trusted origin of these tests."""

LINE = "Refused a page of {0}. If it is your front end, set TRUSTED_ORIGINS=https://app.example,{0}"
NO_LINE = "Refused a page whose origin is {0!r}. Serve your front end over http or https."


@pytest.fixture
def logged(settings: Any, clock: TimeMachineFixture, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the log lines about refused origins."""
    settings.CORS_ALLOWED_ORIGINS = settings.TOKENS_TRUSTED_ORIGINS = [APP]
    _logged.cache_clear()
    return lambda: [record.getMessage() for record in caplog.records if record.name == "config.serving.middleware"]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("options", "/auth/login", {"access-control-request-method": "POST"}),
        ("post", "/auth/refresh-token", {}),
        ("post", "/auth/refresh-token", {"cookie": "refreshToken=x"}),
        ("get", "/api/me/", {}),
        ("post", "/admin/login/", {}),
        ("get", "/nowhere", {}),
    ],
)
@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ("https://new.example:8443", LINE),
        ("http://[::1]:5173", LINE),
        ("null", NO_LINE),
        ("capacitor://localhost", NO_LINE),
        ("https://a.example,https://b.example", NO_LINE),
        (APP, None),
        ("http://testserver", None),
        (None, None),
    ],
)
@pytest.mark.django_db
def test_refused_origin_is_logged_once_with_the_line_to_add(
    client: Client,
    logged: Callable[[], list[str]],
    method: str,
    path: str,
    headers: dict[str, str],
    origin: str | None,
    line: str | None,
) -> None:
    for _ in range(2):
        getattr(client, method)(path, headers={**headers, **({"origin": origin} if origin else {})})
    assert logged() == ([line.format(origin)] if line else [])


def test_many_refused_origins_do_not_fill_the_log(
    client: Client, logged: Callable[[], list[str]], clock: TimeMachineFixture
) -> None:
    def ask() -> None:
        for number in range(MOST_REFUSED + 5):
            client.options("/auth/login", headers={"origin": f"https://{number}.example"})

    ask()
    assert len(logged()) == MOST_REFUSED
    clock.shift(3600)
    ask()
    assert len(logged()) == 2 * MOST_REFUSED


def test_origin_is_not_reported_if_the_server_has_no_such_name(client: Client, logged: Callable[[], list[str]]) -> None:
    assert client.get("/health/live", headers={"host": "10.0.0.9", "origin": "http://10.0.0.9"}).status_code == 200
    assert logged() == []


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "192.0.2.1", "127.0.0.1"),
        (1, None, "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        (2, "203.0.113.9, 192.0.2.1, 192.0.2.2", "192.0.2.1"),
        (2, "192.0.2.1", "127.0.0.1"),
        (1, "192.0.2.1:4711", "192.0.2.1"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "unknown", "127.0.0.1"),
        (1, "192.0.2.1 192.0.2.2", "127.0.0.1"),
        (1, "<script>", "127.0.0.1"),
    ],
)
def test_client_address_comes_from_trusted_proxies(
    settings: Any, rf: RequestFactory, proxies: int, forwarded: str | None, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    response = ClientAddress(sender)(rf.get("/", headers=headers))
    assert body(response) == f"http://testserver {address}"


@pytest.mark.parametrize(
    ("proxies", "proto", "host", "url"),
    [
        (0, "https", "evil.example", "http://testserver"),
        (1, "https", "auth.example.com", "https://auth.example.com"),
        (1, "https, http", "evil.example, auth.example.com", "http://auth.example.com"),
        (2, "https", "auth.example.com", "https://auth.example.com"),
    ],
)
def test_scheme_and_host_come_from_trusted_proxies(
    settings: Any, rf: RequestFactory, proxies: int, proto: str, host: str, url: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    settings.ALLOWED_HOSTS = ["auth.example.com", "testserver"]
    if proxies:
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.USE_X_FORWARDED_HOST = True
    response = ClientAddress(sender)(rf.get("/", headers={"X-Forwarded-Proto": proto, "X-Forwarded-Host": host}))
    assert body(response) == f"{url} 127.0.0.1"


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("/health/live", "/health/live"),
        ("/health/live/", "/health/live"),
        ("/api/schema", "/api/schema/"),
        ("/api/schema/", "/api/schema/"),
        ("/admin/login", "/admin/login/"),
        ("/auth/register/", "/auth/register"),
        ("/auth/login/", "/auth/login/"),  # a path of the app, which works with and without the slash
        ("/api/nowhere", "/api/nowhere"),
        ("/nowhere/", "/nowhere/"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/mounted"])
def test_trailing_slash_is_optional(rf: RequestFactory, asked: str, served: str, prefix: str) -> None:
    def paths(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.path_info} {request.path}")

    response = OptionalTrailingSlash(paths)(rf.post(asked, SCRIPT_NAME=prefix))
    assert body(response) == f"{served} {prefix}{served}"


@pytest.mark.parametrize(("asked", "kept"), [("/api/me", "/api/me"), ("/api/me/", None), ("/nowhere/", None)])
def test_original_path_is_kept_when_the_slash_is_added(rf: RequestFactory, asked: str, kept: str | None) -> None:
    request = rf.get(asked)
    OptionalTrailingSlash(sender)(request)
    assert request.META.get(SENT_PATH) == kept


@pytest.mark.parametrize(("length", "status"), [("1048576", 200), ("1048577", 413), ("", 200), ("-1", 200), ("x", 200)])
def test_too_long_body_is_refused_unread(rf: RequestFactory, length: str, status: int) -> None:
    request = rf.post("/")
    request.META["CONTENT_LENGTH"] = length
    assert Refusals(sender)(request).status_code == status


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed"), InternalError("read-only")])
def test_unreachable_database_is_503(rf: RequestFactory, error: Exception) -> None:
    response = Unavailable(sender).process_exception(rf.get("/"), error)
    assert response is not None
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert '"code": "unavailable"' in body(response)


def test_other_errors_stay_errors(rf: RequestFactory) -> None:
    assert Unavailable(sender).process_exception(rf.get("/"), ValueError()) is None


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/admin/login/", "/api/docs/", "/api/me/"])
@pytest.mark.django_db
def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    response = client.get(path, secure=True)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Strict-Transport-Security"] == "max-age=31536000"
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
    assert "script-src 'self';" in response["Content-Security-Policy"] + ";"


def policies(view: Callable[[HttpRequest], HttpResponseBase], request: HttpRequest) -> dict[str, str]:
    middleware = ContentSecurityPolicy(view)
    response = middleware.process_response(request, view(request))
    return {name: value for name, value in response.items() if name.startswith("Content-Security-Policy")}


def test_view_can_have_its_own_policy(rf: RequestFactory) -> None:
    (own,) = policies(csp_update({"img-src": "https:"})(sender), rf.get("/")).values()
    (usual,) = policies(sender, rf.get("/")).values()
    assert own == usual.replace("data:", "data: https:")


def test_policy_can_be_tried_in_reports(rf: RequestFactory, settings: Settings) -> None:
    settings.CONTENT_SECURITY_POLICY_REPORT_ONLY = {"DIRECTIVES": {"img-src": ["'none'"]}}
    assert "img-src 'none'" in policies(sender, rf.get("/"))["Content-Security-Policy-Report-Only"]


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere"])
def test_debug_404_page_cannot_be_framed(client: Client, settings: Settings, path: str) -> None:
    settings.DEBUG = True
    response = client.get(path)
    assert (response.status_code, response["Content-Security-Policy"]) == (404, "frame-ancestors 'none'")
