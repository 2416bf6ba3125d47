from datetime import UTC, datetime, timedelta
from time import time

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.test import TransactionTestCase
from latchkey.models import SecurityEvent, Session
from latchkey.tokens import RefreshToken


class MountTests(TransactionTestCase):
    databases = ["default", "people"]

    def setUp(self):
        self.user = User.objects.create_user("ann", "ann@example.com", "correct horse")

    def post(self, path, **body):
        return self.client.post(path, body, content_type="application/json")

    def sign_in(self, path="/shop/v2/api/token/"):
        return self.post(path, username="ann", password="correct horse").json()

    def me(self, access, **extra):
        return self.client.get("/me/", headers={"authorization": f"Bearer {access}"}, **extra)

    def test_endpoints_below_a_prefix_with_a_parameter(self):
        pair = self.sign_in()
        self.assertEqual(self.me(pair["access"]).status_code, 200)
        answer = self.post("/shop/v2/auth/login", username="ann", password="correct horse")
        self.assertEqual(answer.cookies["refreshToken"]["path"], settings.TOKENS_COOKIE_PATH)
        answer = self.client.post("/shop/v2/auth/refresh-token/")
        self.assertEqual(self.sign_in("/shop/v2/api/token").keys(), pair.keys())
        headers = {"authorization": f"Bearer {answer.json()['accessToken']}"}
        self.assertEqual(self.client.post("/shop/v2/auth/logout", headers=headers).status_code, 204)
        self.assertEqual(self.client.get("/shop/v2/.well-known/jwks.json").status_code, 200)
        metadata = self.client.get("/shop/v2/.well-known/oauth-authorization-server").json()
        self.assertEqual(metadata["jwks_uri"], "http://testserver/shop/v2/.well-known/jwks.json")
        form = "application/x-www-form-urlencoded"
        revoked = self.client.post("/shop/v2/auth/revoke", f"token={pair['refresh']}", form)
        self.assertEqual(revoked.status_code, 200)
        self.assertEqual(self.me(pair["access"]).status_code, 401)

    def test_client_address_comes_from_the_proxy(self):
        for forwarded, address in (("198.51.100.1, 192.0.2.7:80", "192.0.2.7"), ("", "127.0.0.1"), ("x", "127.0.0.1")):
            body = {"username": "ann", "password": "correct horse"}
            pair = self.client.post(
                "/shop/v2/api/token/", body, "application/json", headers={"x-forwarded-for": forwarded}
            ).json()
            self.assertEqual(self.me(pair["access"]).json()["address"], address)

    def test_reuse_revokes_the_session_despite_the_rollback(self):
        for path in ("/shop/v2/api/token/refresh/", "/own/refresh/"):
            pair = self.sign_in()
            newest = self.post(path, refresh=pair["refresh"]).json()
            self.assertEqual(self.me(newest["access"]).status_code, 200)
            self.assertIn(self.post(path, refresh=pair["refresh"]).status_code, (401, 403))
            session = Session.objects.get(pk=RefreshToken(newest["refresh"], verify=False)["sid"])
            self.assertEqual(session.revoked_reason, "reused")
            self.assertEqual(SecurityEvent.objects.filter(kind="token_reused", session=session.pk).count(), 1)

    def given_up(self):
        """Return an access token that a late retry has given up; its use ends the session."""
        self.sign_in()
        Session.objects.update(generation=1)
        access = RefreshToken.of(Session.objects.get()).access_token
        Session.objects.update(generation=2)
        return str(access)

    def test_guard_revokes_despite_the_rollback(self):
        self.assertEqual(self.me(self.given_up()).json()["code"], "token_reused")
        self.assertEqual(Session.objects.get().revoked_reason, "reused")

    async def test_guard_revokes_despite_the_rollback_under_asgi(self):
        access = await sync_to_async(self.given_up)()
        answer = await self.async_client.get("/me/", headers={"authorization": f"Bearer {access}"})
        self.assertEqual(answer.json()["code"], "token_reused")
        session = await Session.objects.aget()
        self.assertEqual(session.revoked_reason, "reused")

    def test_guesses_are_counted_in_the_projects_own_views(self):
        for path in ("/own/login/", "/shop/v2/api/token/"):
            answers = [self.post(path, username=f"ann{path}", password="wrong").status_code for _ in range(5)]
            # A view without authenticators responds 403. Ours respond 401 with a challenge.
            refused = 403 if path.startswith("/own/") else 401
            self.assertEqual(answers, [refused, refused, refused, 429, 429])
        self.post("/own/login/", username="ann", password="wrong")
        self.assertEqual(SecurityEvent.objects.get(kind="login_failed").count, 1)

    def test_times_are_right(self):
        token = RefreshToken.for_user(self.user)
        now = int(time())
        self.assertLess(abs(token["iat"] - now), 5)
        self.assertLess(abs(token["exp"] - now - 7 * 86400), 5)
        self.assertLess(abs(token.access_token["auth_time"] - now), 5)
        self.assertLess(datetime.now(UTC) - token.access_token.authenticated_at, timedelta(seconds=5))

    def test_sessions_are_in_the_routers_database(self):
        self.sign_in()
        self.assertEqual(Session.objects.using(settings.SESSIONS_IN).count(), 1)
