from datetime import UTC, datetime
from io import StringIO
from time import time
from unittest import skipUnless

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import TestCase
from latchkey.models import SecurityEvent, Session
from latchkey.tokens import RefreshToken
from people import models

User = get_user_model()
NAMES = {"ByCode": "a-1", "ByNumber": "1001"}
FIELDS = {"ByUUID": {"email": "ann@example.com"}}
KIND = User.__name__
NAME = NAMES.get(KIND, "ann")


class UserTests(TestCase):
    def setUp(self):
        self.user = User.objects.create_user("correct horse", **{User.USERNAME_FIELD: NAME}, **FIELDS.get(KIND, {}))

    def post(self, path, **body):
        return self.client.post(path, body, content_type="application/json")

    def sign_in(self):
        answer = self.post("/api/token/", **{User.USERNAME_FIELD: NAME, "password": "correct horse"})
        self.assertEqual(answer.status_code, 200, answer.content)
        return answer.json()

    def me(self, access):
        return self.client.get("/me/", headers={"authorization": f"Bearer {access}"})

    def test_both_transports(self):
        pair = self.sign_in()
        self.assertEqual(self.me(pair["access"]).json(), {"username": NAME})
        pair = self.post("/api/token/refresh/", refresh=pair["refresh"]).json()
        self.assertEqual(self.me(pair["access"]).status_code, 200)
        self.assertEqual(self.post("/api/token/verify/", token=pair["access"]).status_code, 200)
        answer = self.post("/auth/login", **{User.USERNAME_FIELD: NAME, "password": "correct horse"})
        self.assertEqual(answer.json()["user"]["username"], NAME)
        self.assertEqual(answer.json()["user"]["id"], self.user.pk if KIND != "ByUUID" else str(self.user.pk))
        self.assertEqual(self.client.post("/auth/refresh-token").status_code, 200)
        access = answer.json()["accessToken"]
        headers = {"authorization": f"Bearer {access}"}
        self.assertEqual(self.client.post("/auth/introspect", headers=headers).status_code, 403)
        logout = self.client.post("/auth/logout-all", headers=headers)
        self.assertEqual(logout.status_code, 204)
        self.assertEqual(self.me(pair["access"]).json()["code"], "token_revoked")

    def test_simplejwt_tokens_are_accepted_until_the_password_changes(self):
        now = int(time())
        tokens = [
            jwt.encode(
                {"token_type": kind, "jti": jti, "iat": now, "exp": now + 60, "user_id": str(self.user.pk)},
                settings.SECRET_KEY,
            )
            for kind, jti in (("refresh", "a"), ("refresh", "b"), ("access", "c"))
        ]
        with self.settings(TOKENS_LEGACY={"UNTIL": datetime(2100, 1, 1, tzinfo=UTC), "USER_ID_FIELD": "pk"}):
            for _ in range(2):
                pair = self.post("/api/token/refresh/", refresh=tokens[0]).json()
                self.assertEqual(self.me(pair["access"]).json(), {"username": NAME})
            self.assertEqual(self.me(tokens[2]).json(), {"username": NAME})
            self.user.set_password("another horse")
            self.user.save()
            for token in tokens[:2]:
                self.assertEqual(self.post("/api/token/refresh/", refresh=token).json()["code"], "token_revoked")
            self.assertEqual(self.me(tokens[2]).json()["code"], "token_revoked")
            self.assertEqual(call_command("check"), None)

    def test_unknown_names_are_refused(self):
        for name in ("nobody", "999999999999999999999999", "-1", "1e3", "½"):
            answer = self.post("/api/token/", **{User.USERNAME_FIELD: name, "password": "x"})
            self.assertEqual(answer.status_code, 401, name)
        answer = self.post("/api/token/", **{User.USERNAME_FIELD: NAME, "password": "x"})
        self.assertEqual(answer.status_code, 401)
        self.assertEqual(SecurityEvent.objects.filter(kind="login_failed").count(), 1)

    def test_changed_password_and_command_end_sessions(self):
        first, second = self.sign_in(), self.sign_in()
        self.user.set_password("another")
        self.user.save()
        self.assertEqual(self.me(first["access"]).status_code, 401)
        self.user.set_password("correct horse")
        self.user.save()
        self.assertEqual(self.me(second["access"]).status_code, 401)
        pair = self.sign_in()
        out = StringIO()
        call_command("revoketokens", "--user", NAME, stdout=out)
        self.assertIn(f"of {NAME}", out.getvalue())
        self.assertEqual(self.me(pair["access"]).status_code, 401)

    def test_deleted_user_leaves_no_rows(self):
        self.sign_in()
        self.user.delete()
        self.assertFalse(Session.objects.exists())

    @skipUnless("is_active" in {field.name for field in User._meta.get_fields()}, "everybody is active")
    def test_deactivation_ends_sessions_for_good(self):
        pair = self.sign_in()
        self.user.is_active = False
        self.user.save()
        self.user.is_active = True
        self.user.save()
        self.assertEqual(self.me(pair["access"]).json()["code"], "token_revoked")

    @skipUnless(KIND == "Person", "of a proxy and a child")
    def test_signals_of_proxy_and_child_models_are_handled(self):
        for model in (models.Regular, models.Member):
            user = model.objects.create_user("x", login=model.__name__)
            token = RefreshToken.for_user(user if model is models.Regular else user.person_ptr)
            user.is_active = False
            user.save()
            self.assertEqual(token.session.user_id, user.pk)
            self.assertEqual(Session.objects.get(pk=token.session.pk).revoked_reason, "deactivated")
            user.delete()
            self.assertFalse(Session.objects.filter(pk=token.session.pk).exists())

    @skipUnless(KIND == "Hidden", "of a manager that hides")
    def test_hidden_users_cannot_sign_in_and_their_sessions_can_be_ended(self):
        pair = self.sign_in()
        User.objects.update(deleted=True)
        self.assertEqual(self.me(pair["access"]).json()["code"], "token_revoked")
        self.assertEqual(self.post("/api/token/refresh/", refresh=pair["refresh"]).status_code, 401)
        answer = self.post("/api/token/", login=NAME, password="correct horse")
        self.assertEqual(answer.status_code, 401)
        call_command("revoketokens", "--user", NAME, stdout=StringIO())
        User._base_manager.update(deleted=False)
        self.assertEqual(self.me(pair["access"]).json()["code"], "token_revoked")
        call_command("flushexpiredtokens", stdout=StringIO())

    @skipUnless(KIND == "Hidden", "of a manager that hides")
    def test_hidden_user_can_be_deleted(self):
        self.sign_in()
        self.user.deleted = True
        self.user.save()
        with self.assertRaises(Exception) as raised:
            RefreshToken.for_user(self.user)
        self.assertEqual(raised.exception.code, "no_active_account")
        self.user.delete()
        self.assertFalse(Session.objects.exists())

    def test_user_model_is_the_expected_one(self):
        self.assertEqual(settings.AUTH_USER_MODEL, f"people.{KIND}")
