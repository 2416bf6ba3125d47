"""No input causes a 5xx or lets anyone in, and anonymous input makes nothing grow."""

import gc
import json
import logging
import os
import tracemalloc
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
import schemathesis
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.test import Client, RequestFactory
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as how
from hypothesis import strategies as st
from pytest_django import Settings
from schemathesis.specs.openapi.checks import status_code_conformance

from config.serving import middleware
from tests.forgery import anybody, forge
from tests.proof.counts import Counts
from tests.proof.size import LONG
from tokens.domain import sessions
from tokens.exceptions import TokenRefused
from tokens.http import requests
from tokens.models import Bucket
from tokens.tokens import AccessToken, RefreshToken

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
"""The examples of each operation, anonymous and signed in. The default number runs the same ones each time."""

ROUNDS = 200 if LONG else 20
"""The rounds of requests in which everything is new."""

LIMITS = how(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

BODIES: list[tuple[bytes, str]] = [
    (b"", JSON),
    (b"{", JSON),
    (b"null", JSON),
    (b"[]", JSON),
    (b'"text"', JSON),
    (b"1e999", JSON),
    (b"NaN", JSON),
    (b"\xff\xfe", JSON),
    (b"[" * 50_000, JSON),
    (b'{"a":' * 50_000, JSON),
    (b'{"username": 1' + b"0" * 5_000 + b"}", JSON),
    (b"{}", "text/plain"),
    (b"{}", "application/json; charset=utf-99"),
    (b"{}", ";"),
    (b"<a/>", "application/xml"),
    (b"a" * (2 << 20), JSON),
    (b"%00=%ff&token=%00", FORM),
    (b"&".join(b"a%d=1" % number for number in range(5_000)), FORM),
    (
        b'--x\r\nContent-Disposition: form-data; name="refresh"; filename="f"\r\n\r\n\r\n--x--',
        "multipart/form-data; boundary=x",
    ),
    (b"--x", "multipart/form-data"),
]

VALUES: list[Any] = [
    None,
    True,
    -1,
    1e308,
    2**63,
    [],
    {},
    [["a"]],
    {"a": {"b": "c"}},
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "\u202e\ufeff",
    "é" * 4_000,
    "a" * 100_000,
    "a.b.c",
    "..",
    "eyJhbGciOiJub25lIn0.e30.",
]

FIELDS = ("username", "password", "email", "refresh", "token", "uid", "currentPassword", "newPassword", "isActive")

HEADERS: list[dict[str, str]] = [
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer a b c"},
    {"authorization": "Bearer \xff\xfe"},
    {"authorization": "Bearer " + "a" * 100_000},
    {"authorization": "Bearer a.b.c"},
    {"authorization": "Basic \x80"},
    {"authorization": "Basic Og=="},
    {"authorization": "\x00"},
    {"cookie": "refreshToken"},
    {"cookie": "refreshToken=;refreshToken="},
    {"cookie": "refreshToken=a.b.c; refreshToken=a.b.c"},
    {"cookie": 'refreshToken="\\377"'},
    {"cookie": "=" * 10_000},
    {"host": "evil.example"},
    {"host": "a b"},
    {"origin": "null"},
    {"origin": "\xff"},
    {"accept": "*/x"},
    {"accept": "text/html;q=x"},
    {"content-length": "-1"},
    {"content-length": "x"},
    {"x-forwarded-for": "'\"; \x00"},
    {"user-agent": "\x00" * 10},
    {"user-agent": "é" * 1_000},
    {"accept-language": "x" * 10_000},
    {"if-none-match": "x"},
]


def endpoints() -> Iterator[tuple[str, str]]:
    """Yield each method and path of the API, with identifiers that don't exist."""
    generator: Any = SchemaGenerator
    schema: dict[str, Any] = generator().get_schema(public=True)
    for path, operations in schema["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{id}", "0")


def is_guarded(path: str) -> bool:
    return (
        path.startswith("/api/")
        and not path.startswith(("/api/token/", "/api/schema/", "/api/docs/"))
        and path != "/api/"
    )


def rows() -> dict[str, int]:
    """Count the rows of every table except that of the limits, whose size is bounded."""
    return {model._meta.label: model._default_manager.count() for model in apps.get_models() if model is not Bucket}


@pytest.fixture
def stranger() -> Client:
    return Client(raise_request_exception=False)


def send(
    client: Client, method: str, path: str, data: bytes = b"", kind: str = JSON, headers: dict[str, str] | None = None
) -> Any:
    """Send it, and expect any response but a server error."""
    headers = headers or {}
    response = client.generic(method, path, data, content_type=kind, headers=headers)
    assert response.status_code < 500, (method, path, data[:80], kind, headers, response.content[:200])
    if is_guarded(path):
        assert response.status_code >= 400, (method, path)
    if response.status_code >= 400 and path.startswith(("/api/", "/auth/")) and "html" not in headers.get("accept", ""):
        assert response["Content-Type"] == JSON, (method, path, headers, response.status_code, response["Content-Type"])
    return response


@pytest.mark.django_db
def test_hostile_bodies_get_an_answer_and_change_nothing(stranger: Client, counts: Counts) -> None:
    before, sent = rows(), 0
    for method, path in endpoints():
        if method != "GET":
            for data, kind in BODIES:
                send(stranger, method, path, data, kind)
                sent += 1
    assert rows() == before
    counts.add("Hostile input", "bodies", requests=sent, server_errors=0)


@pytest.mark.django_db
def test_hostile_values_get_an_answer_and_change_nothing(stranger: Client, counts: Counts) -> None:
    before, sent = rows(), 0
    for method, path in endpoints():
        if method != "GET":
            for value in VALUES:
                send(stranger, method, path, json.dumps(dict.fromkeys(FIELDS, value)).encode())
                sent += 1
    assert rows() == before
    counts.add("Hostile input", "values of the wrong kind", requests=sent, server_errors=0)


@pytest.mark.django_db
def test_hostile_headers_and_cookies_get_an_answer_and_change_nothing(stranger: Client, counts: Counts) -> None:
    before, sent = rows(), 0
    for method, path in endpoints():
        for headers in HEADERS:
            send(stranger, method, path, headers=headers)
            sent += 1
    assert rows() == before
    counts.add("Hostile input", "headers and cookies", requests=sent, server_errors=0)


def never_seen_before(number: int) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Yield requests in which everything that the server could remember is new: method, path, body, headers."""
    text = f"{number:040}"
    access = forge({"alg": "EdDSA", "typ": "at+jwt", "kid": text}, {"sid": text}, anybody)
    refresh = forge({"alg": "HS256", "typ": "rt+jwt"}, {"sid": text}, anybody)
    yield "POST", "/auth/refresh-token", None, {"cookie": f"refreshToken={refresh}"}
    yield "POST", "/auth/login", {"username": text, "password": text}, {"user-agent": text}
    yield "POST", "/api/token/refresh/", {"refresh": refresh, text: text}, {}
    yield "POST", "/api/token/verify/", {"token": access}, {}
    yield "GET", "/api/me/", None, {"authorization": f"Bearer {access}"}
    yield "GET", f"/api/sessions/{text}/?search={text}", None, {"origin": f"https://{text}.example"}
    yield "GET", f"/{text}", None, {"accept": "text/html", "accept-language": text[-8:]}
    yield "GET", "/", None, {"host": f"{text}.example"}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="one database shows what a process remembers")
@pytest.mark.django_db(transaction=True)
def test_memory_does_not_grow_with_hostile_input(
    settings: Settings, rf: RequestFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    few = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 20}}
    settings.CACHES = {"default": few}
    for module, name in ((middleware, "_leads_somewhere"), (requests, "parse_address")):
        monkeypatch.setattr(module, name, lru_cache(maxsize=20)(getattr(module, name).__wrapped__))
    # This fills all of these caches before they are measured.
    server: Any = get_wsgi_application()
    before = rows()

    def memory_after(numbers: range) -> int:
        for number in numbers:
            for method, path, body, headers in never_seen_before(number):
                data = b"" if body is None else json.dumps(body).encode()
                request = rf.generic(
                    method, path, data, content_type=JSON, headers=headers, REMOTE_ADDR=f"2001:db8:{number:x}::1"
                )
                # Called as the server calls it, because Django's test client keeps a little of each request.
                response = server(request.environ, lambda _status, _headers: None)
                response.close()
                assert 400 <= response.status_code < 500, (method, path, response.status_code)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    logging.disable()  # pytest keeps each line
    tracemalloc.start()
    try:
        held = [memory_after(range(start, start + ROUNDS)) for start in range(0, 4 * ROUNDS, ROUNDS)]
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)
    # Less than two tokens; a round has four. A leak would show in every round.
    assert min(after - before for before, after in pairwise(held)) < 500 * ROUNDS
    assert rows() == before


@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL refuses more")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", ["nobody", "staff"])
def test_every_request_in_the_schema_gets_a_documented_answer(
    who: str, counts: Counts, subtests: pytest.Subtests
) -> None:
    manager: Any = get_user_model()._default_manager
    user = manager.create_user("ann", password="correct horse battery staple", is_staff=True, is_superuser=True)
    schema = schemathesis.openapi.from_wsgi("/api/schema/?format=json", get_wsgi_application())
    results: list[Any] = list(schema.get_all_operations())
    operations = [result.ok() for result in results]
    for operation in operations:
        with subtests.test(msg=operation.label):

            @given(case=operation.as_strategy())
            @LIMITS
            def answer(case: schemathesis.Case[Any]) -> None:
                headers = {}
                if who == "staff":
                    # A new session each time: the request may end the one that it uses.
                    headers["Authorization"] = f"Bearer {AccessToken.of(sessions.start(user))}"
                response = case.call(headers=headers)
                case.validate_response(response, checks=CHECKS)

            answer()
    counts.add("Hostile input", f"of the schema, {who}", requests=len(operations) * EXAMPLES, server_errors=0)


@pytest.mark.django_db
def test_no_other_text_is_accepted_as_a_token(django_user_model: Any, counts: Counts) -> None:
    """The parser gets random texts, and genuine tokens with a change."""
    session = sessions.start(django_user_model._default_manager.create_user("ann", password="x"))
    genuine = [str(RefreshToken.of(session)), str(AccessToken.of(session))]
    changed = st.builds(
        lambda token, at, text: token[: at % len(token)] + text + token[at % len(token) + 1 :],
        st.sampled_from(genuine),
        st.integers(0, 2_000),
        st.text(max_size=3),
    )
    spliced = st.builds(lambda a, b, at: a[:at] + b[at:], *[st.sampled_from(genuine)] * 2, st.integers(0, 600))
    tried = 40 * EXAMPLES

    @given(text=st.one_of(st.text(), st.binary(), changed, spliced), kind=st.sampled_from([RefreshToken, AccessToken]))
    @how(LIMITS, max_examples=tried)
    def refuse(text: Any, kind: type[RefreshToken | AccessToken]) -> None:
        if text in genuine:
            return
        with pytest.raises(TokenRefused):
            kind(text)

    refuse()
    counts.add("Hostile input", "texts for the token parser", requests=tried, server_errors=0)
