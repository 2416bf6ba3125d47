from django.contrib.auth.models import User
from django.test import TestCase

from tokens.models import Coin


class SignInTests(TestCase):
    def setUp(self):
        User.objects.create_superuser("ann", "ann@example.com", "correct horse")

    def post(self, path, **body):
        return self.client.post(path, body, content_type="application/json")

    def me(self, access):
        return self.client.get("/me/", headers={"authorization": f"Bearer {access}"})

    def test_body_transport(self):
        pair = self.post("/api/token/", username="ann", password="correct horse").json()
        self.assertEqual(self.me(pair["access"]).json(), {"username": "ann"})
        renewed = self.post("/api/token/refresh/", refresh=pair["refresh"]).json()
        self.assertEqual(self.post("/api/token/blacklist/", refresh=renewed["refresh"]).status_code, 200)
        self.assertEqual(self.me(renewed["access"]).json()["code"], "token_revoked")

    def test_cookie_transport(self):
        answer = self.post("/auth/login", username="ann", password="correct horse")
        self.assertEqual(self.me(answer.json()["accessToken"]).status_code, 200)
        self.assertEqual(self.client.post("/auth/refresh-token").status_code, 200)

    def test_admin_shows_the_sessions(self):
        self.post("/api/token/", username="ann", password="correct horse")
        self.client.force_login(User.objects.get())
        self.assertContains(self.client.get("/admin/latchkey/session/"), "ann")

    def test_projects_own_tokens_app_is_not_touched(self):
        self.assertEqual(str(Coin(face="heads")), "heads")
        self.assertEqual(Coin._meta.app_label, "tokens")
