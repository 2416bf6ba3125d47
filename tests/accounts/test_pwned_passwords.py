"""Pwned Passwords over HTTP: a server of the tests speaks the protocol of its range API."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
from django.contrib.auth.password_validation import password_validators_help_texts
from django.db import DEFAULT_DB_ALIAS, connections
from pytest_django import Settings

from accounts import pwned_passwords
from accounts.models import User
from tests.clients import PASSWORD, Browser

pytestmark = pytest.mark.django_db

BREACHED = "tr0ub4dor & 3"
REFUSED = {"password": ["This password has appeared in a data breach. Choose one that you don't use anywhere else."]}
COMMON = {"password": ["This password is too common."]}

Answer = Callable[[BaseHTTPRequestHandler], None]


def digest(password: str) -> str:
    return hashlib.sha1(password.encode()).hexdigest().upper()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def answer_range(handler: BaseHTTPRequestHandler) -> None:
    """Answer with the known hashes of that prefix, among others and padding, whose count is 0."""
    lines = [f"{number:035X}:{number}" for number in range(1, 800)]
    lines += [f"{digest(BREACHED)[5:]}:3,861"] * (digest(BREACHED)[:5] == handler.path.rpartition("/")[2])
    lines += [f"{digest(PASSWORD)[5:]}:0"] * (digest(PASSWORD)[:5] == handler.path.rpartition("/")[2])
    send(handler, "\r\n".join(lines).encode())


@dataclass
class Service:
    url: str
    answer: Answer = answer_range
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    in_transaction: list[bool] = field(default_factory=list)
    over: Event = field(default_factory=Event)


@pytest.fixture
def service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked.append((self.path, dict(self.headers)))
            service.in_transaction.append(database.in_atomic_block)
            service.answer(self)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    database = connections[DEFAULT_DB_ALIAS]  # that of this thread
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = Service(f"http://127.0.0.1:{server.server_port}/range/")
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        settings.AUTH_PASSWORD_VALIDATORS = [
            *settings.AUTH_PASSWORD_VALIDATORS,
            {"NAME": "accounts.pwned_passwords.PwnedPasswordsValidator", "OPTIONS": {"endpoint": service.url}},
        ]
        yield service
        service.over.set()
        server.shutdown()
        thread.join()


def register(password: str = PASSWORD) -> Any:
    return Browser().post("/auth/register", {"username": "ann", "password": password})


def test_breached_password_is_refused(service: Service) -> None:
    response = register(BREACHED)
    assert (response.status_code, response.json()) == (400, REFUSED)
    assert not User.objects.exists()


def test_breached_password_is_also_refused_at_a_change(service: Service, ann: User, browser: Browser) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": BREACHED}
    response = browser.post("/auth/password/change", body, browser.access)
    assert (response.status_code, response.json()) == (400, {"newPassword": REFUSED["password"]})
    ann.refresh_from_db()
    assert ann.check_password(PASSWORD)


def test_other_password_is_accepted(service: Service) -> None:
    assert register().status_code == 201


def test_only_five_digits_of_the_hash_are_sent(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    register(BREACHED)
    ((path, headers),) = service.asked
    assert path == f"/range/{digest(BREACHED)[:5]}"
    assert headers["Add-Padding"] == "true"
    sent = f"{headers} {caplog.text}"
    assert BREACHED not in sent
    assert digest(BREACHED)[5:10] not in sent.upper()


@pytest.mark.django_db(transaction=True)
def test_service_is_not_called_within_a_transaction(service: Service) -> None:
    assert register().status_code == 201
    assert service.in_transaction == [False]


def fail(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"", 503)


def refuse(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"rate limit exceeded", 429)


def talk_nonsense(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"<!doctype html><p>Sign in to use this network: now")


def be_no_text(handler: BaseHTTPRequestHandler) -> None:
    send(handler, bytes(range(256)))


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def speak_another_protocol(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n")
    handler.close_connection = True


BROKEN = [fail, refuse, talk_nonsense, be_no_text, hang_up, speak_another_protocol]


@pytest.mark.parametrize("answer", BROKEN)
def test_failing_service_blocks_nobody(service: Service, answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    service.answer = answer
    assert register(BREACHED).status_code == 201
    assert len(service.asked) == 1
    assert caplog.messages
    assert not any(record.exc_info for record in caplog.records)
    assert BREACHED not in caplog.text


@pytest.mark.parametrize("answer", BROKEN)
def test_other_validators_still_run_while_the_service_fails(service: Service, answer: Answer) -> None:
    service.answer = answer
    response = register("password")
    assert (response.status_code, response.json()) == (400, COMMON)
    assert not User.objects.exists()


def test_unreachable_service_blocks_nobody(service: Service, settings: Settings) -> None:
    *others, asked = settings.AUTH_PASSWORD_VALIDATORS
    settings.AUTH_PASSWORD_VALIDATORS = [*others, {**asked, "OPTIONS": {"endpoint": "http://127.0.0.1:9/range/"}}]
    assert register(BREACHED).status_code == 201


def never(service: Service) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        service.over.wait(30)

    return answer


def drop_by_drop(service: Service) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not service.over.wait(0.1):  # without end
            try:
                handler.wfile.write(b"0")
            except OSError:
                return

    return answer


@pytest.mark.parametrize("slow", [never, drop_by_drop])
def test_slow_service_delays_nobody(
    service: Service, slow: Callable[[Service], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwned_passwords, "PATIENCE", 0.2)
    service.answer = slow(service)
    began = monotonic()
    assert register(BREACHED).status_code == 201
    assert monotonic() - began < 15  # on a busy machine; the service takes 30 seconds or more


def test_request_beside_a_slow_one_gives_up_as_well(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwned_passwords, "PATIENCE", 0.2)
    with ThreadPoolExecutor(1) as one:
        monkeypatch.setattr(pwned_passwords, "_asking", one)
        one.submit(service.over.wait, 30)
        assert register(BREACHED).status_code == 201
        service.over.set()
    assert service.asked == []


def test_rule_has_a_help_text(service: Service) -> None:
    assert password_validators_help_texts()[-1] == "Your password can't be one that has appeared in a data breach."
