"""Whatever a client sends, each endpoint's response names the client's error, always in the same shape."""

import json
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from api.schema import schema
from tests.api.people import Person
from tests.clients import claims_of

pytestmark = pytest.mark.django_db

JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"

ENDPOINTS = [
    (method, path)
    for path, methods in schema()["paths"].items()
    if not path.startswith(("/health", "/.well-known"))
    for method in methods
]
WRITING = [found for found in ENDPOINTS if found[0] != "get"]

FIELDS = (
    *("username", "password", "email", "currentPassword", "newPassword", "isActive", "uid"),
    *("token", "refresh", "user", "id", "token_type_hint"),
)
VALUES: list[Any] = [
    *(None, True, 0, -1, 10**400, 1e300, [], {}, [[]], {"": {}}, ["a", 1, None]),
    *("", " ", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\ufffe", "\u202e", "\U0001f511", "é" * 10),
    *("x" * 50_000, "@" * 300, "%s%n", "'; DROP TABLE accounts_user; --", "../../etc/passwd", "1" * 5000),
]

WITH_FIELDS: list[tuple[str | bytes, str]] = [
    *((json.dumps(dict.fromkeys(FIELDS, value)), JSON) for value in VALUES),
    ('{"email": NaN, "isActive": Infinity}', JSON),
    ('{"isActive": 1' + "0" * 5000 + "}", JSON),
    ("username=%00&email=%ED%A0%80&isActive=%FF&currentPassword=%00&token=%00&refresh=%00&password=%00", FORM),
    ("token=x&username=x", f"{FORM}; charset=bz2"),
    (b"token=\xff\xfe", FORM),
]
WITHOUT_FIELDS: list[tuple[str | bytes, str]] = [(json.dumps(value), JSON) for value in VALUES]
UNREADABLE: list[tuple[str | bytes, str]] = [
    ("", JSON),
    ("{", JSON),
    ("[" * 100_000, JSON),
    ("[" * 100_000 + "]" * 100_000, JSON),
    ('{"email":' * 50_000 + "1" + "}" * 50_000, JSON),
    (b"\xff\xfe\x00", JSON),
    (b'{"username": "\xed\xa0\x80"}', JSON),
    (b"\xef\xbb\xbf{}", JSON),
    ("{}", "application/json; charset=utf-16"),
    ("{}", "application/json; charset=bz2"),
    ("{}", "application/json; charset=nonsense"),
    ("{}", "application/json; charset=\x7f"),
    ("&".join(f"a{index}=1" for index in range(2000)), FORM),
    (b"--x\r\n", MULTIPART),
    (b'--x\r\nContent-Disposition: form-data; name="email"; filename="a\x00b"\r\n\r\nx\r\n--x--\r\n', MULTIPART),
    (b"x", "multipart/form-data"),
    (b"x", "multipart/form-data; boundary=" + "x" * 500),
    ("<a/>", "application/xml"),
    ("x", ""),
    ("x", "nonsense"),
    ("x", "/"),
    ("x", "application/json;;;=;"),
]

QUERIES = [
    f"{name}={value}"
    for name in ("user", "cursor", "pageSize", "search", "ordering", "format")
    for value in ("", "%00", "%ED%A0%80", "%FF", "%D9%A3", "9" * 5000, "-1", "x,y", "%5B" * 500, "%22", "%F0%9F%94%91")
] + ["&".join(f"user={index}" for index in range(2000)), "search=" + "+a" * 3000, "ordering=" + "username," * 3000]

HEADERS = [
    *(
        {"HTTP_ACCEPT": accept}
        for accept in ("", "/", "text/html", "a/b;q=x", "*/*;indent=9", "*/*; indent=-1", "x" * 5000)
    ),
    *({"HTTP_AUTHORIZATION": f"Bearer {value}"} for value in ("", "x", "a.b.c", "é", "\x00", "x" * 5000, "a b c")),
    {"HTTP_USER_AGENT": "\xff" * 5000, "REMOTE_ADDR": "nonsense"},
    {"HTTP_USER_AGENT": "a\x00b"},
    {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"},
    {"HTTP_ACCEPT_LANGUAGE": "\x00,../../x;q=0"},
    {"HTTP_IF_NONE_MATCH": "\x00", "HTTP_RANGE": "bytes=9-1"},
    {"HTTP_COOKIE": "refreshToken=\x00; refreshToken=\xff; sessionid=x; csrftoken=\x00"},
    {"HTTP_ORIGIN": "\x00"},
]


@pytest.fixture(autouse=True)
def no_limits(settings: Settings) -> None:
    """Turn the limits off, so every attempt is checked."""
    settings.TOKENS_THROTTLING = False


def assert_answered(response: Any) -> None:
    assert response.status_code < 500
    if response.status_code >= 400 and response["Content-Type"] == JSON:
        errors = response.json()
        assert errors.keys() == {"detail", "code"} or all(isinstance(messages, list) for messages in errors.values())


def address(path: str, person: Person) -> str:
    identifier = claims_of(person.access)["sid"] if "sessions/{id}" in path else str(person.user.pk)
    return path.replace("{id}", identifier)


@pytest.mark.parametrize(("turn", "method", "path"), [(turn, *found) for turn, found in enumerate(WRITING)])
def test_no_body_is_a_server_error(staff: Person, ann: Person, turn: int, method: str, path: str) -> None:
    where = address(path, ann)
    bodies = WITH_FIELDS
    # No other body holds a value that a database could refuse, so one database is enough for them. The endpoints share
    # their parsers, so they take turns at what no parser can read.
    if connection.vendor == "postgresql":
        bodies = [*bodies, *WITHOUT_FIELDS, *UNREADABLE[turn % 3 :: 3]]
    for body, content_type in bodies:
        assert_answered(staff.call(method, where, data=body, content_type=content_type))


@pytest.mark.parametrize(("method", "path"), [found for found in ENDPOINTS if found[0] == "get"])
def test_no_query_is_a_server_error(staff: Person, ann: Person, method: str, path: str) -> None:
    where = address(path, ann)
    for query in QUERIES:
        assert_answered(staff.call(method, where, QUERY_STRING=query))


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite refuses no text that a header holds")
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_no_header_is_a_server_error(staff: Person, ann: Person, method: str, path: str) -> None:
    where = address(path, ann)
    for headers in HEADERS:
        assert_answered(staff.call(method, where, **headers))
