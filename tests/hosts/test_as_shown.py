"""The files and commands that the pages show for a new project, with the wheel."""

import os
import re
import subprocess
from pathlib import Path

from tests.test_docs import BLOCK, read


def test_app_alone_is_installed_as_shown(tmp_path: Path, host_python: Path) -> None:
    """Follow docs/installing.md in a new project, with the user model that it shows."""
    settings_, urls, view, recent, renewal, tour_, user = [
        block for language, block in BLOCK.findall(read("docs/installing.md")) if language == "python"
    ]
    (tmp_path / "people/migrations").mkdir(parents=True)
    for name in ("people/__init__.py", "people/migrations/__init__.py"):
        (tmp_path / name).touch()
    (tmp_path / "people/models.py").write_text(user)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"}

    def python(*arguments: str, stdin: str = "") -> str:
        command = [str(host_python), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("-m", "django", "startproject", "shop", ".", "--settings=")
    with (tmp_path / "shop/settings.py").open("a") as file:
        file.write(f'{settings_}\nINSTALLED_APPS += ["people"]\nAUTH_USER_MODEL = "people.User"\n')
    (tmp_path / "shop/urls.py").write_text(urls)
    python("manage.py", "makemigrations", "people")
    for command in ("migrate", "check"):
        assert f"python manage.py {command}\n" in read("docs/installing.md")
        python("manage.py", command)
    python("manage.py", "shell", "-c", view)
    python("manage.py", "shell", "-c", recent)
    make = "from people.models import User; User.objects.create_user('ada', password='the analytical engine')\n"
    printed = python("manage.py", "shell", "-v0", "-c", make + tour_).splitlines()

    assert printed[1:] == ["1", "token_revoked"]
    renew = """
from rest_framework.test import APIRequestFactory
from datetime import timedelta
from people.models import User
from latchkey.models import Session
from latchkey.tokens import AccessToken
token = AccessToken.for_user(User.objects.get())
Session.objects.update(created_at=token.authenticated_at - timedelta(days=1))
for password in ("wrong", "the analytical engine"):
    asked = APIRequestFactory().post(
        "/", {"currentPassword": password}, format="json", HTTP_AUTHORIZATION=f"Bearer {token}"
    )
    answer = RenewSignIn.as_view()(asked)
    print(answer.status_code, [*answer.data])
print(AccessToken(answer.data["accessToken"])["auth_time"] >= token["iat"])
"""
    printed = python("manage.py", "shell", "-v0", "-c", renewal + renew).splitlines()
    assert printed == ["400 ['currentPassword']", "200 ['accessToken']", "True"]
    upgrade = """
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from people.models import User
from latchkey.tokens import RefreshToken
user = User.objects.get()
user.password = PBKDF2PasswordHasher().encode("the analytical engine", "a-salt-of-twenty-two-characters", 1)
user.save()
session = RefreshToken.for_user(user)
hashed = user.password
assert User.objects.get().check_password("the analytical engine")
assert User.objects.get().password != hashed
print(RefreshToken(str(session))["sub"])
"""
    assert python("manage.py", "shell", "-v0", "-c", upgrade) == "1\n"


PROJECT_TO_TEST = """
from django.urls import include, path
from rest_framework.response import Response
from rest_framework.views import APIView
from latchkey.permissions import RecentSignIn


class Orders(APIView):
    def get(self, request):
        return Response([])


class Payout(APIView):
    permission_classes = [RecentSignIn]

    def post(self, request):
        return Response("paid")


urlpatterns = [
    path("", include("latchkey.urls")),
    path("orders/", Orders.as_view()),
    path("payout/", Payout.as_view()),
]
"""


def test_project_is_tested_as_shown(tmp_path: Path, host_python: Path) -> None:
    """Follow docs/testing.md in a new project that has the wheel, and none of this repository's tests."""
    blocks = [block for language, block in BLOCK.findall(read("docs/testing.md")) if language == "python"]
    [case] = [block for block in blocks if "TestCase" in block]
    with_pytest = "\n".join(block for block in blocks if block is not case)
    installed, *_ = [block for language, block in BLOCK.findall(read("docs/installing.md")) if language == "python"]

    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [str(host_python), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    python("-m", "django", "startproject", "shop", ".", "--settings=")
    with (tmp_path / "shop/settings.py").open("a") as file:
        file.write(installed)
    (tmp_path / "shop/urls.py").write_text(PROJECT_TO_TEST)
    (tmp_path / "test_shop.py").write_text(with_pytest)
    (tmp_path / "tests.py").write_text(case)

    expected = len(re.findall(r"(?m)^def test_", with_pytest))
    assert f"{expected} passed" in python("-m", "pytest", "-W", "error")
    assert "Ran 1 test" in python("manage.py", "test", "tests")


WHO_COMES_IN = """
import pytest

URLS = ("/greeting/", "/front-page/", "/ninja/me")


@pytest.fixture
def ada(django_user_model, db):
    return django_user_model.objects.create_user("ada")


def test_ada_comes_in(latchkey_client, ada):
    session = latchkey_client.sign_in(ada)
    answers = [latchkey_client.get(url).json() for url in URLS]
    assert answers == [{"hello": "ada"}, {"signedIn": True}, {"username": "ada", "session": str(session.pk)}]


def test_nobody_else_does(latchkey_client, ada):
    assert [latchkey_client.get(url).status_code for url in URLS] == [401, 200, 401]
    latchkey_client.sign_in(ada)
    latchkey_client.end_session()
    for url in ("/greeting/", "/ninja/me"):
        assert latchkey_client.get(url).json()["code"] == "token_revoked"


def test_schema_names_the_schemes(client):
    schema = client.get("/schema/", headers={"accept": "application/json"}).json()
    assert [*schema["components"]["securitySchemes"]] == ["accessToken", "refreshToken", "service"]
"""


def test_guards_around_drf_are_installed_as_shown(tmp_path: Path, host_python: Path) -> None:
    blocks = [block for language, block in BLOCK.findall(read("docs/around-drf.md")) if language == "python"]
    installed, urls, *_ = [
        block for language, block in BLOCK.findall(read("docs/installing.md")) if language == "python"
    ]
    documenting = """
INSTALLED_APPS += ["drf_spectacular"]
REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [str(host_python), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python("-m", "django", "startproject", "shop", ".", "--settings=")
    with (tmp_path / "shop/settings.py").open("a") as file:
        file.write(installed + documenting)
    (tmp_path / "shop/urls.py").write_text("\n".join([urls, *blocks]))
    (tmp_path / "test_shop.py").write_text(WHO_COMES_IN)

    assert "3 passed" in python("-m", "pytest", "-W", "error")
    python("manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", "schema.yml")
    schema_of_the_shop = (tmp_path / "schema.yml").read_text()
    assert "/auth/login" in schema_of_the_shop
    assert "accessToken" in schema_of_the_shop.partition("schemas:")[2]
