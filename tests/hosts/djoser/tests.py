from django.test import TestCase
from latchkey.models import Session
from people.models import User
from rest_framework_simplejwt.tokens import RefreshToken  # checksimplejwt: ignore


class MovedTests(TestCase):
    def setUp(self):
        self.user = User.objects.create_user("ann", "ann@example.com", "correct horse")

    def ask(self, path, access="", method="post", **body):
        headers = {"authorization": f"JWT {access}"} if access else {}
        answer = getattr(self.client, method)(f"/auth/{path}", body, content_type="application/json", headers=headers)
        return answer.status_code, answer.json() if answer.content else None

    def me(self, access):
        answer = self.client.get("/auth/users/me/", headers={"authorization": f"JWT {access}"})
        return answer.json().get("id", answer.status_code)

    def refresh(self, token):
        return self.ask("jwt/refresh/", refresh=str(token))

    def test_login_and_refresh_without_a_slash(self):
        status, tokens = self.ask("jwt/create", email="ann@example.com", password="correct horse")
        self.assertEqual((status, self.me(tokens["access"])), (200, str(self.user.pk)))
        status, tokens = self.ask("jwt/refresh", refresh=tokens["refresh"])
        self.assertEqual((status, self.me(tokens["access"])), (200, str(self.user.pk)))
        self.assertEqual(self.ask("jwt/verify", token=tokens["access"]), (200, {}))

    def test_old_tokens_stay_signed_in(self):
        old = RefreshToken.for_user(self.user)
        self.assertEqual(self.me(old.access_token), str(self.user.pk))
        status, tokens = self.refresh(old)
        self.assertEqual((status, self.me(tokens["access"])), (200, str(self.user.pk)))
        session = Session.objects.get()
        self.assertEqual((session.user, session.generation), (self.user, 1))

    def test_blacklisted_token_stays_refused(self):
        old = RefreshToken.for_user(self.user)
        old.blacklist()
        self.assertEqual((self.refresh(old)[0], Session.objects.count()), (401, 0))

    def test_password_change_and_deletion_end_old_and_new_tokens(self):
        old = RefreshToken.for_user(self.user)
        _, new = self.ask("jwt/create/", email="ann@example.com", password="correct horse")
        passwords = {"current_password": "correct horse", "new_password": "battery staple"}
        self.assertEqual(self.ask("users/set_password/", new["access"], **passwords)[0], 204)
        for refresh, access in ((old, old.access_token), (new["refresh"], new["access"])):
            self.assertEqual((self.refresh(refresh)[0], self.me(access)), (401, 401))
        _, new = self.ask("jwt/create/", email="ann@example.com", password="battery staple")
        self.assertEqual(self.ask("users/me/", new["access"], "delete", current_password="battery staple")[0], 204)
        self.assertEqual((self.refresh(new["refresh"])[0], self.me(new["access"])), (401, 401))
