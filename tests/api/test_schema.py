"""The OpenAPI schema says what the wire does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admindocs.views import simplify_regex
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.api.people import Person
from tests.clients import PASSWORD, App
from tests.tokens.test_oauth import basic

pytestmark = pytest.mark.django_db

LOOK = {"token_not_valid", "token_expired", "token_revoked"}
PROOF = {"invalid_dpop_proof", "use_dpop_nonce"}
REFRESH = LOOK | PROOF | {"token_reused", "dpop_proof_required", "dpop_key_mismatch"}
GUARD = REFRESH | {"not_authenticated"}
LOGIN = PROOF | {"dpop_proof_required"}
THROTTLED = {429: {"throttled"}}
SECOND_STEP = {"invalid_code", "invalid_passkey", "invalid_challenge", "dpop_key_mismatch", *PROOF}
CROSS_SITE = {403: {"cross_site_request"}}
NOT_FOUND = {404: {"not_found"}}
PASSKEY_LOGIN = {"invalid_passkey", "unknown_passkey", "invalid_challenge", *LOGIN}
EXCHANGE = {"not_authenticated", "session_not_exchangeable", "second_factor_required", *LOGIN}
RENEWED = {"reauthentication_required", *GUARD}
REFUSED_ANSWER = {"invalid_passkey", "invalid_challenge"}
UNVERIFIED = {403: {"cross_site_request", "email_not_verified"}}
STAFF = {401: GUARD, 403: {"permission_denied"}}

CONTRACT: dict[str, dict[int, set[str]]] = {
    "post /auth/register": {
        201: set(),
        202: set(),
        400: {"parse_error"},
        401: LOGIN,
        403: {"cross_site_request", "registration_closed"},
        **THROTTLED,
    },
    "post /auth/login": {
        200: set(),
        401: {"invalid_credentials", "second_factor_required", *LOGIN},
        **THROTTLED,
        **CROSS_SITE,
    },
    "post /auth/login/second-factor": {200: set(), 401: SECOND_STEP, **THROTTLED, **CROSS_SITE},
    "post /auth/session": {200: set(), 401: EXCHANGE, **THROTTLED, **CROSS_SITE, **NOT_FOUND},
    "post /api/token/session/": {200: set(), 401: EXCHANGE, **THROTTLED, **CROSS_SITE, **NOT_FOUND},
    "post /auth/refresh-token": {200: set(), 401: {"refresh_token_missing", *REFRESH}, **THROTTLED, **CROSS_SITE},
    "post /auth/logout": {204: set(), 401: {"refresh_token_missing", *GUARD}, **CROSS_SITE},
    "post /auth/logout-all": {204: set(), 401: GUARD, **CROSS_SITE},
    "post /auth/reauthenticate": {
        200: set(),
        400: {"no_password", "parse_error"},
        401: GUARD | REFUSED_ANSWER,
        **THROTTLED,
        **CROSS_SITE,
    },
    "post /auth/account/delete": {
        204: set(),
        400: {"parse_error"},
        401: RENEWED | REFUSED_ANSWER,
        409: {"account_in_use"},
        **THROTTLED,
        **CROSS_SITE,
    },
    "post /auth/password/change": {200: set(), 400: {"parse_error"}, 401: RENEWED, **THROTTLED, **CROSS_SITE},
    "post /auth/password/reset": {202: set(), 400: {"parse_error"}, **THROTTLED, **CROSS_SITE},
    "post /auth/password/reset/check": {204: set(), 400: {"parse_error"}, **CROSS_SITE},
    "post /auth/password/reset/confirm": {204: set(), 400: {"parse_error"}, **CROSS_SITE},
    "post /auth/email/verify/check": {204: set(), 400: {"parse_error"}, **CROSS_SITE},
    "post /auth/email/verify": {204: set(), 400: {"parse_error"}, **CROSS_SITE},
    "post /auth/email/resend": {202: set(), 401: GUARD, **THROTTLED, **CROSS_SITE},
    "get /auth/password": {200: set(), 401: GUARD, **CROSS_SITE},
    "get /auth/second-factor": {200: set(), 401: GUARD, **CROSS_SITE},
    "post /auth/second-factor": {200: set(), 400: {"parse_error"}, 401: RENEWED, **THROTTLED, **UNVERIFIED},
    "post /auth/second-factor/confirm": {200: set(), 401: GUARD, **THROTTLED, **UNVERIFIED},
    "post /auth/second-factor/recovery-codes": {200: set(), 401: RENEWED | REFUSED_ANSWER, **THROTTLED, **CROSS_SITE},
    "post /auth/second-factor/remove": {204: set(), 401: RENEWED | REFUSED_ANSWER, **THROTTLED, **CROSS_SITE},
    "post /auth/passkeys/options": {
        200: set(),
        400: {"too_many_passkeys"},
        401: RENEWED,
        403: {"cross_site_request", "email_not_verified"},
        **NOT_FOUND,
    },
    "get /auth/passkeys": {200: set(), 401: GUARD, **NOT_FOUND, **CROSS_SITE},
    "post /auth/passkeys": {
        201: set(),
        400: {"parse_error", "too_many_passkeys"},
        401: {"invalid_challenge", *GUARD},
        **NOT_FOUND,
        **UNVERIFIED,
    },
    "patch /auth/passkeys/{id}": {200: set(), 400: {"parse_error"}, 401: GUARD, **NOT_FOUND, **CROSS_SITE},
    "delete /auth/passkeys/{id}": {204: set(), 400: {"last_way_in"}, 401: RENEWED, **NOT_FOUND, **CROSS_SITE},
    "post /auth/login/passkey/options": {200: set(), **THROTTLED, **NOT_FOUND, **CROSS_SITE},
    "post /auth/login/passkey": {
        200: set(),
        400: {"parse_error"},
        401: PASSKEY_LOGIN,
        **THROTTLED,
        **NOT_FOUND,
        **CROSS_SITE,
    },
    "post /auth/reauthenticate/options": {200: set(), 400: {"no_passkey"}, 401: GUARD, **NOT_FOUND, **CROSS_SITE},
    "post /api/token/passkey/options/": {200: set(), **THROTTLED, **NOT_FOUND},
    "post /api/token/passkey/": {200: set(), 400: {"parse_error"}, 401: PASSKEY_LOGIN, **THROTTLED, **NOT_FOUND},
    "post /auth/revoke": {200: set(), **CROSS_SITE},
    "post /auth/introspect": {
        200: set(),
        401: {"invalid_credentials", *GUARD},
        403: {"cross_site_request", "permission_denied"},
    },
    "get /auth/ended": {
        200: set(),
        401: {"invalid_credentials", "not_authenticated"},
        410: {"cursor_expired"},
        **CROSS_SITE,
    },
    "post /api/token/": {200: set(), 401: {"no_active_account", "second_factor_required", *LOGIN}, **THROTTLED},
    "post /api/token/second-factor/": {200: set(), 401: SECOND_STEP, **THROTTLED},
    "post /api/token/refresh/": {200: set(), 401: REFRESH, **THROTTLED},
    "post /api/token/verify/": {200: set(), 401: LOOK},
    "post /api/token/blacklist/": {200: set(), 401: LOOK},
    "get /.well-known/jwks.json": {200: set()},
    "get /.well-known/oauth-authorization-server": {200: set()},
    "get /api/": {200: set()},
    "get /api/me/": {200: set(), 401: GUARD},
    "patch /api/me/": {200: set(), 400: {"parse_error"}, 401: RENEWED | REFUSED_ANSWER, **THROTTLED},
    "get /api/sessions/": {200: set(), 401: GUARD, 404: {"not_found"}},
    "patch /api/sessions/{id}/": {200: set(), 400: {"parse_error"}, 401: GUARD, 404: {"not_found"}},
    "delete /api/sessions/{id}/": {204: set(), 401: GUARD, 404: {"not_found"}},
    "post /api/sessions/revoke-others/": {200: set(), 401: GUARD},
    "get /api/users/": {200: set(), 400: set(), 404: {"not_found"}, **STAFF},
    "get /api/users/{id}/": {200: set(), 404: {"not_found"}, **STAFF},
    "patch /api/users/{id}/": {200: set(), 400: {"parse_error"}, 404: {"not_found"}, **STAFF},
    "post /api/users/{id}/revoke-sessions/": {200: set(), 404: {"not_found"}, **STAFF},
    "post /api/users/{id}/send-password-reset/": {
        202: set(),
        400: {"no_reset_possible"},
        404: {"not_found"},
        **STAFF,
        **THROTTLED,
    },
    "get /api/security-events/": {200: set(), 400: set(), 404: {"not_found"}, **STAFF},
    "get /api/schema/": {200: set()},
    "get /health/live": {200: set()},
    "get /health/ready": {200: set(), 503: {"unavailable"}},
}


@pytest.fixture(scope="module")
def schema() -> Any:
    response = APIClient().get("/api/schema/")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    return response.json()


def operations(schema: Any) -> dict[str, Any]:
    return {
        f"{method} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def codes_in(operation: Any, status: int) -> set[str]:
    """Return the error codes that the operation lists for that status."""
    codes: set[str] = set()
    for media_type in operation["responses"][str(status)].get("content", {}).values():
        for body in media_type["schema"].get("oneOf", [media_type["schema"]]):
            codes.update(body.get("properties", {}).get("code", {}).get("enum", ()))
    return codes


def test_schema_is_valid_and_complete(tmp_path: Path) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml"))


def endpoints(patterns: Any = None, prefix: str = "") -> Iterator[str]:
    """Yield the method and the path of every call for programs, from the URLconf."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from endpoints(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and hasattr(pattern.callback, "cls"):
            view: Any = pattern.callback
            if view.cls.schema is None:
                continue  # a page for people
            methods = getattr(view, "actions", {name for name in view.cls.http_method_names if hasattr(view.cls, name)})
            for method in set(methods).intersection(view.cls.http_method_names) - {"options", "head"}:
                yield f"{method} {simplify_regex(path)}".replace("<pk>", "{id}").replace("<uuid:pk>", "{id}")


def test_schema_has_every_endpoint_and_no_other(schema: Any) -> None:
    assert sorted(operations(schema)) == sorted(set(endpoints())) == sorted(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_schema_has_the_statuses_and_codes_of_the_contract(schema: Any, name: str) -> None:
    operation = operations(schema)[name]
    assert {status: codes_in(operation, status) for status in CONTRACT[name]} == CONTRACT[name]


def test_operation_ids_are_unique(schema: Any) -> None:
    names = [operation["operationId"] for operation in operations(schema).values()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations(schema).values())


def test_schema_describes_who_may_call(schema: Any) -> None:
    access: Any = {"accessToken": []}
    cookie: Any = {"refreshToken": []}
    service: Any = {"service": []}
    security = {name: operation.get("security") for name, operation in operations(schema).items()}
    assert security.pop("post /auth/logout") == [access | cookie]
    assert security.pop("post /auth/refresh-token") == [cookie]
    assert security.pop("post /auth/introspect") == [access, service]
    assert security.pop("get /auth/ended") == [service]
    guarded = {name for name, statuses in CONTRACT.items() if statuses.get(401, set()) >= GUARD}
    assert security == {name: [access] if name in guarded else None for name in security}
    assert schema["components"]["securitySchemes"] == {
        "accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "refreshToken": {"type": "apiKey", "in": "cookie", "name": "refreshToken"},
        "service": {"type": "http", "scheme": "basic"},
    }


def test_schema_describes_the_headers(schema: Any) -> None:
    for name, operation in operations(schema).items():
        for status, response in operation["responses"].items():
            headers = response.get("headers", {})
            assert ("WWW-Authenticate" in headers) == (status == "401"), name
            assert ("Retry-After" in headers) == (status in ("429", "503")), name
            assert ("Cache-Control" in headers) == (not name.split()[1].startswith("/api/") or "/token/" in name), name
    cookies = {
        (name, status)
        for name, operation in operations(schema).items()
        for status, response in operation["responses"].items()
        if "Set-Cookie" in response.get("headers", {})
    }
    assert cookies == {
        ("post /auth/register", "201"),
        ("post /auth/login", "200"),
        ("post /auth/login/second-factor", "200"),
        ("post /auth/login/passkey", "200"),
        ("post /auth/session", "200"),
        ("post /auth/refresh-token", "200"),
        ("post /auth/refresh-token", "401"),
        ("post /auth/logout", "204"),
        ("post /auth/logout-all", "204"),
        ("post /auth/account/delete", "204"),
        ("post /auth/password/change", "200"),
    }


# Responses, compared with it


def as_json_schema(node: Any) -> Any:
    """Return the schema of a response as JSON Schema that allows no other properties."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: as_json_schema(value) for name, value in node.items() if name != "nullable"}
    if "properties" in node and node.get("type") == "object":
        sent = {name for name, value in node["properties"].items() if not value.get("writeOnly")}
        made["properties"] = {name: made["properties"][name] for name in sent}
        made["required"] = [name for name in node.get("required", ()) if name in sent]
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made


def assert_as_described(schema: Any, name: str, response: Any) -> None:
    described = operations(schema)[name]["responses"][str(response.status_code)]
    headers = set(described.get("headers", {}))
    assert headers - {"Set-Cookie", "DPoP-Nonce"} <= set(response.headers)
    assert "Set-Cookie" in headers or not response.cookies
    content = described.get("content")
    if content is None:
        assert response.content == b""
        return
    body = as_json_schema(content[response["Content-Type"].partition(";")[0]]["schema"])
    Draft202012Validator(
        {**body, "components": as_json_schema(schema["components"])}, format_checker=FormatChecker()
    ).validate(response.json())


def test_cookie_transport_answers_match_the_schema(schema: Any) -> None:
    ann = Person("ann")
    credentials = {"username": "ann", "password": PASSWORD}
    change = {"currentPassword": PASSWORD, "newPassword": "another horse battery"}
    foreign = {"HTTP_ORIGIN": "https://evil.example"}

    def post(path: str, body: Any = None, status: int = 200, **extra: Any) -> Any:
        response = ann.post(path, body, **extra)
        assert response.status_code == status, response.content
        assert_as_described(schema, f"post {path}", response)
        return response

    post("/auth/register", {**credentials, "email": "ann@example.com"}, 201)
    post("/auth/register", credentials, 400)
    post("/auth/login", {}, 400)
    post("/auth/login", {**credentials, "password": "wrong"}, 401)
    post("/auth/login", credentials, 403, **foreign)
    ann.access = post("/auth/login", credentials).json()["accessToken"]
    post("/auth/refresh-token")
    post("/auth/reauthenticate", {}, 400, access=ann.access)
    post("/auth/reauthenticate", {"currentPassword": PASSWORD}, 401)
    post("/auth/reauthenticate", {"currentPassword": PASSWORD}, access=ann.access)
    post("/auth/password/change", {}, 400, access=ann.access)
    post("/auth/password/change", change, 401)
    post("/auth/password/change", {**change, "refresh": "none"}, 401, access=ann.access)
    ann.access = post("/auth/password/change", change, access=ann.access).json()["accessToken"]
    post("/auth/email/resend", {}, 202, access=ann.access)
    post("/auth/email/verify", {"uid": "x", "token": "x"}, 400)
    post("/auth/email/verify/check", {"uid": "x", "token": "x"}, 400)
    post("/auth/password/reset", {"email": "nonsense"}, 400)
    post("/auth/password/reset", {"email": "ann@example.com"}, 202)
    post("/auth/password/reset/check", {"uid": "x", "token": "x"}, 400)
    post("/auth/password/reset/confirm", {"uid": "x", "token": "x", "newPassword": "x"}, 400)
    post("/auth/logout", None, 401)
    post("/auth/logout", None, 204, access=ann.access)
    post("/auth/refresh-token", None, 401)
    ann.cookie = "nonsense"
    post("/auth/refresh-token", None, 401)
    post("/auth/logout-all", None, 401, access=ann.access)


def test_required_verification_answers_match_the_schema(schema: Any, settings: Settings) -> None:
    settings.EMAIL_VERIFICATION_REQUIRED = True
    body = {"username": "ann", "email": "ann@example.com", "password": PASSWORD}
    for status in (202, 400):
        response = Person("ann").post("/auth/register", body)
        assert response.status_code == status
        assert_as_described(schema, "post /auth/register", response)


def test_body_transport_answers_match_the_schema(schema: Any, ann: Person) -> None:
    app = App()

    def post(path: str, body: Any, status: int) -> Any:
        response = app.http.post(path, body)
        assert response.status_code == status, response.content
        assert_as_described(schema, f"post {path}", response)
        return response.json()

    tokens = post("/api/token/", {"username": "ann", "password": PASSWORD}, 200)
    post("/api/token/", {"username": "ann", "password": "wrong"}, 401)
    post("/api/token/", {}, 400)
    refreshed = post("/api/token/refresh/", {"refresh": tokens["refresh"]}, 200)
    post("/api/token/refresh/", {"refresh": "x"}, 401)
    post("/api/token/verify/", {"token": refreshed["refresh"]}, 200)
    post("/api/token/verify/", {"token": tokens["refresh"]}, 200)
    post("/api/token/verify/", {"token": "x"}, 401)
    post("/api/token/verify/", {"token": None}, 400)
    post("/api/token/blacklist/", {"refresh": refreshed["refresh"]}, 200)
    post("/api/token/blacklist/", {"refresh": refreshed["refresh"]}, 401)


def test_service_answers_match_the_schema(schema: Any, ann: Person, staff: Person) -> None:
    def post(path: str, person: Person, body: str, status: int) -> None:
        response = person.call("post", path, data=body, content_type="application/x-www-form-urlencoded")
        assert response.status_code == status, response.content
        assert_as_described(schema, f"post {path}", response)

    post("/auth/introspect", staff, f"token={ann.access}", 200)
    post("/auth/introspect", staff, f"token={ann.cookie}", 200)
    post("/auth/introspect", staff, "token=x", 200)
    post("/auth/introspect", staff, "", 400)
    post("/auth/introspect", ann, "token=x", 403)
    post("/auth/revoke", staff, "", 400)
    post("/auth/revoke", staff, "token=x", 200)
    post("/auth/revoke", staff, f"token={ann.cookie}", 200)
    post("/auth/introspect", ann, "token=x", 401)


def test_feed_answers_match_the_schema(schema: Any, ann: Person, settings: Settings) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": "a secret of its own"}
    good, wrong = basic("billing", "a secret of its own"), basic("billing", "wrong")
    ann.post("/auth/logout-all", access=ann.access)
    for authorization, after, status in [
        (good, {}, 200),
        (good, {"after": "x"}, 400),
        (good, {"after": "1-1"}, 410),
        (wrong, {}, 401),
    ]:
        response = APIClient().get("/auth/ended", after, headers={"Authorization": authorization})
        assert response.status_code == status
        assert_as_described(schema, "get /auth/ended", response)


@pytest.mark.parametrize(
    ("who", "name", "path", "body", "status"),
    [
        ("ann", "get /api/", None, None, 200),
        ("ann", "get /api/me/", None, None, 200),
        ("ann", "patch /api/me/", None, {"username": "anna"}, 200),
        ("ann", "patch /api/me/", None, {"username": "a@b"}, 400),
        ("ann", "patch /api/me/", None, "text", 400),
        ("ann", "get /api/sessions/", None, None, 200),
        ("ann", "get /api/sessions/", "/api/sessions/?cursor=x", None, 404),
        ("ann", "delete /api/sessions/{id}/", "/api/sessions/x/", None, 404),
        ("ann", "post /api/sessions/revoke-others/", None, None, 200),
        ("ann", "get /api/security-events/", None, None, 200),
        ("ann", "get /api/security-events/", "/api/security-events/?user=987654321", None, 403),
        ("ann", "get /api/security-events/", "/api/security-events/?user=x", None, 400),
        ("ann", "get /api/users/", None, None, 403),
        ("staff", "get /api/users/", None, None, 200),
        ("staff", "get /api/users/", "/api/users/?ordering=x", None, 400),
        ("staff", "get /api/users/", "/api/users/?cursor=x", None, 404),
        ("staff", "get /api/users/{id}/", "ann", None, 200),
        ("staff", "get /api/users/{id}/", "/api/users/x/", None, 404),
        ("staff", "patch /api/users/{id}/", "ann", {"isActive": False}, 200),
        ("staff", "patch /api/users/{id}/", "ann", {"isActive": 7}, 400),
        ("staff", "patch /api/users/{id}/", "staff", {"isActive": False}, 403),
        ("staff", "post /api/users/{id}/revoke-sessions/", "/api/users/x/revoke-sessions/", None, 404),
        ("staff", "post /api/users/{id}/send-password-reset/", "/api/users/x/send-password-reset/", None, 404),
        ("ann", "get /.well-known/jwks.json", None, None, 200),
        ("ann", "get /.well-known/oauth-authorization-server", None, None, 200),
        ("ann", "get /health/live", None, None, 200),
        ("ann", "get /health/ready", None, None, 200),
    ],
)
def test_api_answers_match_the_schema(
    schema: Any, ann: Person, staff: Person, who: str, name: str, path: str | None, body: Any, status: int
) -> None:
    people = {"ann": ann, "staff": staff}
    method, template = name.split()
    response = people[who].call(method, people[path].path if path in people else path or template, body)
    assert response.status_code == status, response.content
    assert_as_described(schema, name, response)


def test_answers_for_links_sent_by_staff_match_the_schema(
    schema: Any, ann: Person, staff: Person, settings: Settings
) -> None:
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    path = f"{ann.path}send-password-reset/"
    for who, status in ((ann, 403), (staff, 202), (staff, 429)):
        response = who.call("post", path)
        assert response.status_code == status
        assert_as_described(schema, "post /api/users/{id}/send-password-reset/", response)
    staff.call("patch", ann.path, {"isActive": False})
    response = staff.call("post", path)
    assert response.status_code == 400
    assert_as_described(schema, "post /api/users/{id}/send-password-reset/", response)


# The page


def test_page_loads_nothing_from_other_hosts_and_has_no_inline_script(db: None) -> None:
    response = APIClient().get("/api/docs/")
    page = response.content.decode()
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert 'data-schema="/api/schema/"' in page
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith(("/static/", "/api/")) for address in loaded)
    assert all(finders.find(address.removeprefix("/static/")) for address in loaded if address.startswith("/static/"))
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == ["", ""]
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "'unsafe-inline'" not in re.findall(r"script-src[^;]*", response["Content-Security-Policy"])[0]


def test_page_refuses_other_methods_as_the_api_does(db: None) -> None:
    response = APIClient(enforce_csrf_checks=True).post("/api/docs/", headers={"Accept": "text/html"})
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert response.json()["code"] == "method_not_allowed"


def test_page_calls_no_validator_and_stores_no_token(db: None) -> None:
    script = Path(str(finders.find("api/docs.js"))).read_text()
    assert "validatorUrl: null" in script
    assert "persistAuthorization: false" in script
    assert "http" not in script
