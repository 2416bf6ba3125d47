from django.contrib.auth.models import User
from django.test import Client, TestCase
from latchkey.models import Session
from rest_framework_simplejwt.tokens import RefreshToken  # checksimplejwt: ignore


class MovedTests(TestCase):
    def setUp(self):
        self.user = User.objects.create_user("ann", password="correct horse")

    def post(self, path, **body):
        return self.client.post(f"/dj-rest-auth/{path}/", body, content_type="application/json")

    def me(self):
        return self.client.get("/me/").status_code

    def test_login_refresh_and_logout_by_cookie(self):
        answer = self.post("login", username="ann", password="correct horse")
        self.assertEqual((answer.status_code, answer.json()["user"]["username"]), (200, "ann"))
        self.assertEqual(self.me(), 200)
        before = self.client.cookies["refresh"].value
        answer = self.post("token/refresh")
        self.assertEqual((answer.status_code, "refresh" in answer.json()), (200, False))
        self.assertNotEqual(self.client.cookies["refresh"].value, before)
        self.assertEqual(self.me(), 200)
        kept = {name: self.client.cookies[name].value for name in ("access", "refresh")}
        self.assertEqual(self.post("logout").status_code, 200)
        self.client.cookies.load(kept)
        self.assertEqual((self.me(), self.post("token/refresh").status_code), (401, 401))

    def test_refresh_and_logout_by_body_and_without_a_slash(self):
        self.post("login", username="ann", password="correct horse")
        refresh = self.client.cookies["refresh"].value
        self.client.cookies.clear()

        def post(path, body):
            return self.client.post(f"/dj-rest-auth/{path}", body, content_type="application/json").status_code

        self.assertEqual(post("token/refresh", {"refresh": refresh}), 200)
        self.client.cookies.clear()
        self.assertEqual(post("logout", {"refresh": refresh}), 200)
        self.assertEqual(post("token/refresh", {"refresh": refresh}), 401)
        for body in ([], {"refresh": 5}, {"refresh": [refresh]}):
            self.assertEqual(post("logout", body), 200)

    def test_old_cookies_stay_signed_in(self):
        old = RefreshToken.for_user(self.user)
        self.client.cookies.load({"access": str(old.access_token), "refresh": str(old)})
        self.assertEqual(self.me(), 200)
        self.assertEqual(self.post("token/refresh").status_code, 200)
        self.assertEqual((self.me(), Session.objects.get().generation), (200, 1))

    def test_cookie_needs_a_csrf_token(self):
        self.post("login", username="ann", password="correct horse")
        elsewhere = Client(enforce_csrf_checks=True)
        elsewhere.cookies = self.client.cookies
        self.assertEqual((elsewhere.get("/me/").status_code, elsewhere.post("/me/").status_code), (200, 403))
        header = {"authorization": f"Bearer {self.client.cookies['access'].value}"}
        self.assertEqual(elsewhere.post("/me/", headers=header).status_code, 405)

    def test_old_cookies_stay_signed_out_after_logout(self):
        old = RefreshToken.for_user(self.user)
        self.client.cookies.load({"refresh": str(old)})
        self.assertEqual(self.post("logout").status_code, 200)
        self.client.cookies.load({"refresh": str(old)})
        self.assertEqual(self.post("token/refresh").status_code, 401)
        self.client.cookies.load({"refresh": "no.token.at-all"})
        self.assertEqual(self.post("logout").status_code, 200)
