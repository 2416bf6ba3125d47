import json

from django.contrib.auth.models import User
from django.test import Client, TestCase, override_settings

APP = "/_allauth/app/v1"
ACCOUNT = {"id": 42, "username": "ann", "email": "ann@example.com"}


class Factor:
    """A second factor of the project's own, which everybody has."""

    def methods(self, user):
        return ["number"]

    def options(self, user, challenge):
        return {}

    def verify(self, user, answer, client):
        return ["pwd", "otp"]


factor = Factor()


def post(client, path, body=None, **headers):
    return client.post(path, json.dumps(body or {}), content_type="application/json", headers=headers)


def me(access):
    return Client().get("/me", headers={"authorization": f"Bearer {access}"})


def sign_in_by_redirects():
    client = Client()
    authenticate = client.post("/accounts/dummy/login/")
    answered = client.post(authenticate["Location"], ACCOUNT)
    assert answered.status_code == 302, answered.content
    return client


def sign_in_by_app(client=None, **headers):
    token = {"provider": "dummy", "process": "login", "token": {"id_token": json.dumps(ACCOUNT)}}
    return post(client or Client(), f"{APP}/auth/provider/token", token, **headers)


class RedirectTests(TestCase):
    def test_social_login_becomes_a_session(self):
        client = sign_in_by_redirects()
        answer = post(client, "/auth/session")
        self.assertEqual(answer.status_code, 200, answer.content)
        self.assertEqual(me(answer.json()["accessToken"]).json(), {"user": "ann", "amr": ["fed"]})
        self.assertEqual(client.post("/auth/refresh-token").status_code, 200)
        self.assertEqual(post(client, "/auth/session").json()["code"], "not_authenticated")
        self.assertEqual(client.get("/accounts/email/").status_code, 302)

    def test_pair(self):
        pair = post(sign_in_by_redirects(), "/api/token/session/").json()
        self.assertEqual(me(pair["access"]).status_code, 200)

    def test_password_of_allauth(self):
        User.objects.create_user("ben", password="correct horse")
        client = Client()
        client.post("/accounts/login/", {"login": "ben", "password": "correct horse"})
        answer = post(client, "/auth/session").json()
        self.assertEqual(me(answer["accessToken"]).json(), {"user": "ben", "amr": ["pwd"]})

    @override_settings(TOKENS_SECOND_FACTOR="tests.factor")
    def test_second_factor_is_asked_for(self):
        client = sign_in_by_redirects()
        first = post(client, "/auth/session")
        self.assertEqual((first.status_code, first.json()["code"]), (401, "second_factor_required"))
        answer = post(client, "/auth/login/second-factor", {"challenge": first.json()["challenge"], "code": "1"})
        self.assertEqual(me(answer.json()["accessToken"]).json()["amr"], ["fed", "otp"])


class HeadlessTests(TestCase):
    def ask(self, meta):
        return Client().get(f"{APP}/auth/session", headers={"x-session-token": meta["session_token"]})

    def test_app_gets_the_tokens_of_a_session(self):
        answer = sign_in_by_app()
        self.assertEqual(answer.status_code, 200, answer.content)
        meta = answer.json()["meta"]
        self.assertEqual(me(meta["access_token"]).json(), {"user": "ann", "amr": ["fed"]})
        self.assertEqual(self.ask(meta).status_code, 200)

        renewed = post(Client(), f"{APP}/tokens/refresh", {"refresh_token": meta["refresh_token"]}).json()["data"]
        self.assertEqual(me(renewed["access_token"]).status_code, 200)
        self.assertEqual(post(Client(), "/api/token/refresh/", {"refresh": renewed["refresh_token"]}).status_code, 200)
        for wrong in ("made up", "\0", "\ud800"):
            self.assertEqual(post(Client(), f"{APP}/tokens/refresh", {"refresh_token": wrong}).status_code, 400)

    def test_allauths_session_ends_with_ours(self):
        meta = sign_in_by_app().json()["meta"]
        post(Client(), "/auth/logout-all", authorization=f"Bearer {meta['access_token']}")
        self.assertEqual(self.ask(meta).status_code, 410)

    def test_our_session_ends_with_allauths(self):
        meta = sign_in_by_app().json()["meta"]
        Client().delete(f"{APP}/auth/session", headers={"x-session-token": meta["session_token"]})
        self.assertEqual(me(meta["access_token"]).json()["code"], "token_revoked")
        self.assertEqual(self.ask(meta).status_code, 410)

    def test_session_token_is_exchanged_once(self):
        client = Client()
        client.cookies["sessionid"] = sign_in_by_app().json()["meta"]["session_token"]
        self.assertEqual(post(client, "/auth/session").json()["code"], "session_not_exchangeable")

    def test_invalid_session_token(self):
        for token in ("made up", "\0"):
            self.assertEqual(self.ask({"session_token": token}).status_code, 410)

    @override_settings(TOKENS_SECOND_FACTOR="tests.factor")
    def test_second_factor_is_asked_for(self):
        first = sign_in_by_app()
        self.assertEqual((first.status_code, first.json()["code"]), (401, "second_factor_required"))
        second = {"challenge": first.json()["challenge"], "code": "1"}
        self.assertEqual(post(Client(), "/api/token/second-factor/", second).status_code, 200)

    @override_settings(TOKENS_DPOP="required")
    def test_proof_of_a_key_is_required(self):
        refused = sign_in_by_app()
        self.assertEqual((refused.status_code, refused.json()["code"]), (401, "dpop_proof_required"))

    def test_browser_exchanges_its_session(self):
        client = Client()
        token = {"provider": "dummy", "process": "login", "token": {"id_token": json.dumps(ACCOUNT)}}
        self.assertEqual(post(client, "/_allauth/browser/v1/auth/provider/token", token).status_code, 200)
        self.assertEqual(post(client, "/auth/session").status_code, 200)
