from datetime import timedelta

from django.contrib.auth.models import User
from django.test import TestCase
from knox.models import AuthToken
from latchkey.models import Session


class ExchangedTests(TestCase):
    def setUp(self):
        self.token, self.text = AuthToken.objects.create(User.objects.create_user("ann", password="correct horse"))

    def exchange(self):
        return self.client.post("/auth/knox/", headers={"Authorization": f"Token {self.text}"})

    def get(self, path, answer):
        return self.client.get(path, headers={"Authorization": f"Bearer {answer.json()['access']}"})

    def test_token_becomes_a_session_once(self):
        answer = self.exchange()
        self.assertEqual((answer.status_code, AuthToken.objects.count()), (200, 0))
        self.assertEqual(self.get("/me/", answer).json(), {"user": "ann"})
        renewed = self.client.post("/api/token/refresh/", {"refresh": answer.json()["refresh"]})
        self.assertEqual(self.get("/me/", renewed).json(), {"user": "ann"})
        self.assertEqual((self.exchange().status_code, Session.objects.count()), (401, 1))

    def test_sign_in_is_as_old_as_the_token(self):
        AuthToken.objects.update(created=self.token.created - timedelta(hours=1))
        answer = self.exchange()
        self.assertContains(self.get("/secret/", answer), "recent sign-in", status_code=401)
