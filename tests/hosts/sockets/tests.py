import json
import socket
from contextlib import contextmanager
from threading import Thread

import uvicorn
from django.contrib.auth.models import User
from django.test import TransactionTestCase
from latchkey.testing import APIClient, expired_token, revoked_token
from latchkey.tokens import AccessToken, RefreshToken
from project.asgi import application
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


@contextmanager
def serving():
    """Run the project under uvicorn; yield its address."""
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield "{}:{}".format(*listening.getsockname())
        finally:
            server.should_exit = True
            thread.join()


class SocketTests(TransactionTestCase):
    def setUp(self):
        self.user = User.objects.create_user("ann", password="correct horse")
        self.address = self.enterContext(serving())

    def connect(self, *protocols):
        return connect(f"ws://{self.address}/chat", subprotocols=protocols, proxy=None)

    def test_good_token_opens_and_the_end_of_its_session_closes(self):
        refresh = RefreshToken.for_user(self.user)
        with self.connect("chat", str(refresh.access_token)) as opened:
            self.assertEqual(opened.subprotocol, "chat")
            self.assertEqual(opened.recv(timeout=30), "Hello, ann")
            opened.send("still here")
            self.assertEqual(opened.recv(timeout=30), "still here")
            APIClient().post("/api/token/blacklist/", {"refresh": str(refresh)})
            with self.assertRaises(ConnectionClosed) as closing:
                opened.recv(timeout=30)
        self.assertEqual((closing.exception.rcvd.code, closing.exception.rcvd.reason), (4401, "token_revoked"))

    def test_without_a_good_token_nothing_opens(self):
        bound = AccessToken.for_user(self.user, jkt="x" * 43)
        for code, *token in (
            ("not_authenticated",),
            ("token_not_valid", "eyJhbGciOiJub25lIn0.e30.x"),
            ("token_not_valid", str(RefreshToken.for_user(self.user))),
            ("token_expired", expired_token(self.user)),
            ("token_revoked", revoked_token(self.user)),
            ("dpop_proof_required", str(bound)),
        ):
            with self.subTest(code), self.assertRaises(InvalidStatus) as refusal:
                self.connect("chat", *token)
            answer = refusal.exception.response
            self.assertEqual((answer.status_code, json.loads(answer.body)["code"]), (401, code))
            self.assertIn(' realm="api"', answer.headers["WWW-Authenticate"])
