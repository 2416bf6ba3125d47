"""The guard of Channels' WebSockets."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import OperationalError
from django.utils import timezone
from time_machine import TimeMachineFixture

from tests.clients import App
from tests.provers import Prover
from tokens.contrib.channels import SessionMiddleware
from tokens.domain import sessions
from tokens.models import Reason, Session
from tokens.testing import expired_token, reused_token, revoked_token
from tokens.tokens import AccessToken, RefreshToken

# Channels closes connections to the database, which ends the transaction of an ordinary test.
pytestmark = pytest.mark.django_db(transaction=True)

SHORT = 0.01
"""Seconds. No test depends on how much longer a check takes."""

gone: list[int] = []


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    subprotocol: str | None = None

    async def connect(self) -> None:
        await self.accept(self.subprotocol)
        user, auth = self.scope["user"], self.scope["auth"]
        await self.send(f"{user.pk} {auth['sid']} {self.scope['subprotocols']}")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)

    async def disconnect(self, code: int) -> None:
        gone.append(code)
        await self.send("too late")


class Chat(Echo):
    subprotocol = "chat"


@pytest.fixture(autouse=True)
def nobody_gone() -> None:
    gone.clear()


COMMUNICATOR: Any = ApplicationCommunicator


class Socket:
    """The client's end."""

    def __init__(
        self, *protocols: str, consumer: Any = Echo, interval: float = 60, query: bytes = b"", **scope: Any
    ) -> None:
        handshake = {"type": "websocket", "path": "/ws", "query_string": query, "headers": [(b"host", b"localhost")]}
        guarded = SessionMiddleware(consumer.as_asgi(), interval)
        self.asgi = COMMUNICATOR(guarded, {**handshake, "subprotocols": list(protocols), **scope})

    async def open(self) -> tuple[bool, Any]:
        """Return whether it was accepted, and the subprotocol or the code of the refusal."""
        await self.asgi.send_input({"type": "websocket.connect"})
        answer = await self.next()
        let_in = answer["type"] == "websocket.accept"
        return let_in, answer["subprotocol" if let_in else "code"]

    async def send(self, text: str) -> None:
        await self.asgi.send_input({"type": "websocket.receive", "text": text})

    async def next(self) -> Any:
        return await self.asgi.receive_output(timeout=30)

    async def close(self) -> None:
        await self.asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.asgi.wait(timeout=30)


def connect(*protocols: str, **options: Any) -> tuple[bool, Any]:
    """Open a socket, and close it again."""

    async def talk() -> tuple[bool, Any]:
        client = Socket(*protocols, **options)
        answer = await client.open()
        if answer[0]:
            await client.close()
        return answer

    return async_to_sync(talk)()


def test_token_of_an_active_session_is_accepted_and_not_passed_on(app: App, ann: Any) -> None:
    async def talk() -> None:
        client = Socket("chat", app.access)
        assert await client.open() == (True, "chat")
        sid = (await sync_to_async(Session.objects.get)()).pk
        assert (await client.next())["text"] == f"{ann.pk} {sid} ['chat']"
        await client.send("hello")
        assert (await client.next())["text"] == "hello"
        await client.close()

    async_to_sync(talk)()
    assert gone == [1000]


def test_first_use_of_a_rotated_token_confirms_it(app: App) -> None:
    app.refresh()
    assert not Session.objects.get().confirmed

    assert connect(app.access)[0]
    assert Session.objects.get().confirmed


def test_subprotocol_is_the_consumers_or_the_first_without_a_credential(app: App) -> None:
    assert connect(app.access, "a", "chat") == (True, "a")
    assert connect(app.access, "a", "chat", consumer=Chat) == (True, "chat")
    assert connect(app.access) == (True, None)


def test_other_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="SessionMiddleware guards WebSockets, and this is http"):
        async_to_sync(SessionMiddleware(Echo.as_asgi()))({"type": "http"}, None, None)


def test_sockets_without_a_good_token_are_refused(app: App, ann: Any) -> None:
    refused = (False, 4401)
    assert connect() == refused
    assert connect("chat", query=f"token={app.access}".encode()) == refused
    assert (
        connect("chat", headers=[(b"host", b"localhost"), (b"authorization", f"Bearer {app.access}".encode())])
        == refused
    )
    for token in (
        "chat",
        "eyJ",
        "eyJhbGciOiJub25lIn0.e30.x",
        f"{app.access}x",
        app.refresh_token,
        expired_token(ann),
        revoked_token(ann),
        reused_token(ann, kind="access"),
    ):
        assert connect("chat", token) == refused, token
    assert connect(app.access, str(AccessToken.for_user(ann))) == refused
    assert not gone


@pytest.mark.parametrize(
    ("protocols", "code", "challenge"),
    [
        (["chat"], "not_authenticated", b'Bearer realm="api"'),
        (["eyJ"], "token_not_valid", b'Bearer realm="api", error="invalid_token"'),
    ],
)
def test_refusal_is_the_apis_own_where_the_server_can_send_one(
    protocols: list[str], code: str, challenge: bytes
) -> None:
    async def talk() -> tuple[Any, Any]:
        client = Socket(*protocols, extensions={"websocket.http.response": {}})
        await client.asgi.send_input({"type": "websocket.connect"})
        answer = await client.next(), await client.next()
        await client.asgi.wait(timeout=30)
        return answer

    start, body = async_to_sync(talk)()

    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    headers = dict(start["headers"])
    assert (headers[b"content-type"], headers[b"cache-control"]) == (b"application/json", b"no-store")
    assert headers[b"www-authenticate"].startswith(challenge)
    assert (body["type"], json.loads(body["body"])["code"]) == ("websocket.http.response.body", code)


class TestBoundTokens:
    @pytest.fixture
    def prover(self) -> Prover:
        return Prover()

    @pytest.fixture
    def token(self, ann: Any, prover: Prover) -> str:
        return str(AccessToken.for_user(ann, jkt=prover.jkt))

    def test_need_a_proof_of_their_key_for_this_url(self, token: str, prover: Prover) -> None:
        for proof in (
            (),
            (Prover().prove("GET", "http://localhost/ws", token),),
            (prover.prove("POST", "http://localhost/ws", token),),
            (prover.prove("GET", "http://localhost/other", token),),
            (prover.prove("GET", "https://localhost/ws", token),),
            (prover.prove("GET", "http://localhost/ws"),),
            (prover.prove("GET", "http://localhost/ws", token),) * 2,
        ):
            assert connect("chat", token, *proof) == (False, 4401)

    @pytest.mark.parametrize(("scheme", "url"), [("ws", "http://localhost/ws"), ("wss", "https://localhost/ws")])
    def test_let_in_with_one_once(self, token: str, prover: Prover, scheme: str, url: str) -> None:
        proof = prover.prove("GET", url, token)
        assert connect(proof, token, "chat", scheme=scheme) == (True, "chat")
        assert connect(proof, token, "chat", scheme=scheme) == (False, 4401)

    def test_stay_open_without_another(self, token: str, prover: Prover) -> None:
        proof = prover.prove("GET", "http://localhost/ws", token)
        stays_open(token, proof, while_it_is=after_some_checks)

    def test_are_refused_where_the_host_is_not_ours(self, token: str, prover: Prover) -> None:
        proof = prover.prove("GET", "http://evil.example/ws", token)
        assert connect(token, proof, headers=[(b"host", b"evil.example")]) == (False, 4401)

    def test_unbound_token_ignores_the_proof(self, app: App, prover: Prover) -> None:
        assert connect(app.access, prover.prove("GET", "http://localhost/ws", app.access)) == (False, 4401)


async def after_some_checks() -> None:
    await asyncio.sleep(SHORT * 5)


def stays_open(*protocols: str, while_it_is: Callable[[], Awaitable[None]]) -> None:
    async def talk() -> None:
        client = Socket(*protocols, interval=SHORT)
        assert (await client.open())[0]
        await client.next()
        await while_it_is()
        await client.send("still here")
        assert (await client.next())["text"] == "still here"
        await client.close()

    async_to_sync(talk)()


def is_closed(token: str, end: Callable[[], Any]) -> dict[str, Any]:
    """Open a socket, end its session, and return the message that closes it."""

    async def talk() -> dict[str, Any]:
        client = Socket(token, interval=SHORT)
        assert (await client.open())[0]
        await client.next()
        await sync_to_async(end)()
        message: dict[str, Any] = await client.next()
        await client.asgi.wait(timeout=30)
        assert await client.asgi.receive_nothing()
        return message

    return async_to_sync(talk)()


def test_open_socket_is_closed_once_its_session_has_ended(app: App) -> None:
    closing = is_closed(app.access, lambda: sessions.revoke(Session.objects.get(), Reason.LOGOUT))

    assert closing == {"type": "websocket.close", "code": 4401, "reason": "token_revoked"}
    assert gone == [4401]


def test_open_socket_is_closed_once_its_user_is_deactivated(app: App, ann: Any) -> None:
    closing = is_closed(app.access, lambda: type(ann)._default_manager.update(is_active=False))

    assert closing["reason"] == "token_revoked"


def test_open_socket_is_closed_once_its_token_has_expired(app: App, time_machine: TimeMachineFixture) -> None:
    closing = is_closed(app.access, lambda: time_machine.move_to(timezone.now() + timedelta(minutes=16)))

    assert closing["reason"] == "token_expired"


def test_open_socket_does_not_count_as_use(app: App) -> None:
    stays_open(app.access, while_it_is=after_some_checks)

    assert RefreshToken(app.refresh_token).session.generation == 0


def test_outage_refuses_new_sockets_and_closes_none(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    async def outage() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "introspect", fail)
            await after_some_checks()

    stays_open(app.access, while_it_is=outage)
    monkeypatch.setattr(sessions, "accept", fail)
    assert connect(app.access) == (False, 1013)
