"""The guard of Django Channels' WebSockets."""

import asyncio
import json
from collections import defaultdict
from io import BytesIO
from typing import Any

from channels.db import database_sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from rest_framework.exceptions import APIException, NotAuthenticated

from ..authentication import JWTAuthentication
from ..conf import conf
from ..domain.outages import OUTAGES
from ..exceptions import TokenRefused
from ..http import errors, proofs
from ..jose import dpop
from ..tokens import AccessToken, Token

REFUSED, UNAVAILABLE = 4401, 1013
ERRORS = (APIException, TokenRefused, SuspiciousOperation, *OUTAGES)


class SessionMiddleware:
    """Accept sockets with an active session's access token, and close them once the token would be refused.

    The client offers the token as one subprotocol, and the proof of its key as another. The consumer sees only the
    rest. `scope["user"]` is the user, `scope["auth"]` the token, which is checked again every `interval` seconds.
    """

    def __init__(self, inner: Any, interval: float = 10) -> None:
        self.inner, self.interval = inner, interval

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] != "websocket":
            raise ValueError(f"SessionMiddleware guards WebSockets, and this is {scope['type']}.")
        offered = defaultdict(list)
        for protocol in scope.get("subprotocols", ()):  # a server may leave it out
            is_jws = protocol.startswith("eyJ")  # a JWS header begins like this
            kind = "proof" if dpop.is_proof(protocol) else "token" if is_jws else "other"
            offered[kind].append(protocol)
        try:
            user, token = await database_sync_to_async(_authenticate)(scope, offered)
        except ERRORS as error:
            await receive()  # the client's request to connect
            for message in _refusal(scope, error):
                await send(message)
            return None
        watch = asyncio.create_task(self._close_once_refused(offered["token"][0], send))

        async def receive_while_open() -> Any:
            coming = asyncio.ensure_future(receive())
            try:
                await asyncio.wait({coming, watch}, return_when=asyncio.FIRST_COMPLETED)
                return {"type": "websocket.disconnect", "code": REFUSED} if watch.done() else coming.result()
            finally:
                coming.cancel()

        async def send_while_open(message: Any) -> None:
            if message["type"] == "websocket.accept" and not message.get("subprotocol"):
                message["subprotocol"] = next(iter(offered["other"]), None)  # browsers need one that they offered
            if not watch.done():
                await send(message)

        guarded = {**scope, "user": user, "auth": token, "subprotocols": offered["other"]}
        try:
            return await self.inner(guarded, receive_while_open, send_while_open)
        finally:
            watch.cancel()

    async def _close_once_refused(self, token: str, send: Any) -> None:
        """Check the token again and again, without its key, which was proved when the socket opened."""
        closing = None
        while closing is None or closing["code"] != REFUSED:
            await asyncio.sleep(self.interval)
            try:
                await database_sync_to_async(AccessToken)(token)
            except ERRORS as error:
                closing = _closing(error)
        await send(closing)


def _authenticate(scope: Any, offered: dict[str, list[str]]) -> tuple[Any, Token] | None:
    """Authenticate the handshake like a request with these credentials as headers. Refuse duplicates, or no token."""
    scheme = scope.get("scheme", "ws").replace("ws", "http")
    request: Any = ASGIRequest({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())
    if not offered["token"]:
        raise NotAuthenticated
    request.META[proofs.HEADER] = ",".join(offered["proof"])
    kind = "DPoP" if offered["proof"] else conf.auth_header_types[0]
    request.META[conf.auth_header_name] = f"{kind} {' '.join(offered['token'])}"
    guard = JWTAuthentication()
    guard.takes_former_tokens = False  # they have no session that could end
    return guard.authenticate(request)


def _refusal(scope: Any, error: Exception) -> list[dict[str, Any]]:
    """Refuse the handshake with the API's own answer. A server that can't send one answers 403, whatever the code."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        return [_closing(error)]
    response = errors.answer(error)
    headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
    start = {"type": "websocket.http.response.start", "status": response.status_code, "headers": headers}
    return [start, {"type": "websocket.http.response.body", "body": response.content}]


def _closing(error: Exception) -> dict[str, Any]:
    response = errors.answer(error)
    code = UNAVAILABLE if response.status_code == 503 else REFUSED
    return {"type": "websocket.close", "code": code, "reason": json.loads(response.content)["code"]}
