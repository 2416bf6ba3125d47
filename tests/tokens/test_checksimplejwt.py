"""The command that checks a project that uses SimpleJWT."""

import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from secrets import token_urlsafe
from types import ModuleType
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.core.management.base import CommandError
from django.http import HttpResponse
from django.urls import include, path, re_path
from pytest_django import Settings
from rest_framework.views import APIView
from rest_framework_simplejwt import authentication, serializers, views

from tokens.management import moving
from tokens.serializers import TokenObtainPairSerializer
from tokens.views import TokenRefreshView, TokenVerifyView

pytestmark = pytest.mark.django_db

GUARD = "rest_framework_simplejwt.authentication.JWTAuthentication"
MOVED = {"ROTATE_REFRESH_TOKENS": True}


@pytest.fixture(autouse=True)
def project(settings: Settings, tmp_path: Path) -> Path:
    """A project with nothing left to change."""
    settings.SIMPLE_JWT, settings.BASE_DIR = MOVED, tmp_path
    settings.REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["tokens.authentication.JWTAuthentication"]}
    settings.ROOT_URLCONF = "tests.urls_tokens"
    return tmp_path


def findings_of(*arguments: str, left: int) -> list[str]:
    """Run the command; return the lines that it printed."""
    out = StringIO()
    if left:
        with pytest.raises(CommandError, match=rf"^{left} left to change\.$") as stopped:
            call_command("checksimplejwt", *arguments, stdout=out)
        assert stopped.value.returncode == 1
        return out.getvalue().splitlines()
    call_command("checksimplejwt", *arguments, stdout=out)
    assert out.getvalue() == "Nothing is left to change.\n"
    return []


def write(project: Path, text: str, name: str = "shop/code.py") -> None:
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text(text)


class Cookies(authentication.JWTAuthentication):
    """A project's own guard, derived from SimpleJWT's."""


class Guarded(APIView):
    authentication_classes = [Cookies]


def test_moved_project_has_no_findings(project: Path) -> None:
    write(
        project,
        "import tokens.views\nfrom tokens.tokens import RefreshToken\nfrom tokens import models, domain\n"
        "from tokens.domain import sessions\nfrom tokens.authentication import *\nimport tokensale.views\n"
        "from os import sep\nfrom . import here\n",
    )
    findings_of(left=0)


def test_module_whose_library_is_not_installed_is_there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ninja", None)
    monkeypatch.delitem(sys.modules, "tokens.contrib.ninja", raising=False)
    write(project, "from tokens.contrib.ninja import SessionAuth\n")
    findings_of(left=0)


def test_folder_can_be_chosen(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere, "import rest_framework_simplejwt.tokens\n")
    assert findings_of(str(elsewhere), left=1)[0].startswith("shop/code.py:1: ")
    with pytest.raises(CommandError, match="is not a folder"):
        call_command("checksimplejwt", str(project / "nowhere"))


@pytest.mark.parametrize(("line", "way"), [
    ("from rest_framework_simplejwt.tokens import RefreshToken", "Import tokens.tokens instead of"),
    ("import rest_framework_simplejwt.views as views", "Import tokens.views instead of"),
    ("from rest_framework_simplejwt import serializers", "Import tokens.serializers instead of"),
    ("import rest_framework_simplejwt", "has no counterpart"),
    ("from rest_framework_simplejwt.utils import datetime_to_epoch", "has no counterpart"),
    ("from rest_framework_simplejwt.utils import aware_utcnow", "django.utils.timezone"),
    ("from rest_framework_simplejwt.settings import api_settings", "the setting SIMPLE_JWT"),
    ("from rest_framework_simplejwt.models import TokenUser", "from tokens.models"),
    ("from rest_framework_simplejwt.token_blacklist.models import OutstandingToken", "query Session"),
    ("from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken", "blacklist()"),
    ("from rest_framework_simplejwt.token_blacklist.admin import OutstandingTokenAdmin", "sessions have an admin"),
    ("from rest_framework_simplejwt.tokens import SlidingToken", "Sliding tokens are not supported"),
    ("from tokens.tokens import SlidingToken", "Sliding tokens are not supported"),
    # Search and replace that went too far.
    ("import tokens.utils", "has no counterpart"),
    ("from tokens.utils import datetime_to_epoch", "has no counterpart"),
    ("from tokens.settings import api_settings", "the lifetimes are AccessToken.lifetime"),
    ("from tokens.token_blacklist.models import BlacklistedToken", "blacklist()"),
    ("from tokens.models import OutstandingToken", "query Session"),
    ("from tokens.tokens import token_backend", "the text of a token"),
])  # fmt: skip
def test_import_is_reported_with_its_place_and_replacement(project: Path, line: str, way: str) -> None:
    write(project, f"\n{line}\n")
    [finding] = findings_of(left=1)
    assert finding.startswith("shop/code.py:2: ")
    assert way in finding
    write(project, f"\n{line}  # checksimplejwt: ignore\n")
    findings_of(left=0)


def test_files_outside_the_project_are_not_read(project: Path) -> None:
    for name in ("venv/lib/a.py", ".venv/a.py", "node_modules/a.py", "shop/migrations/0001.py", "shop/notes.txt"):
        write(project, "import rest_framework_simplejwt\n", name)
    write(project, "", "venv/pyvenv.cfg")
    findings_of(left=0)


def test_unreadable_file_is_reported(project: Path) -> None:
    write(project, "print 'Python 2'\n")
    assert findings_of(left=1)[0].startswith("shop/code.py: The file can't be read: ")


@pytest.mark.parametrize(("base", "member", "left"), [
    ("TokenObtainPairSerializer", "def validate(self, attrs): return {}", "Serializer.validate: call super().validate"),
    ("TokenObtainPairSerializer", "def validate(self, attrs): return super().validate(attrs)", ""),
    ("TokenObtainPairSerializer", "def get_token(cls, user): return RefreshToken.for_user(user)", ""),
    ("TokenObtainPairView", "def post(self, request): return Response()", "View.post: call super().post, or"),
    ("TokenObtainPairView", "def post(self, request): return self.get_serializer(data={}).is_valid()", ""),
    ("TokenRefreshSerializer", "def validate(self, attrs): return super().validate(attrs)", ""),
    ("TokenRefreshSerializer", "def add(self, user): return AccessToken.for_user(user)", "add starts another session"),
    ("JWTAuthentication", "def get_user(self, token): return User.objects.get(pk=token['user_id'])", "the session"),
    ("JWTAuthentication", "def authenticate(self, request): return None", ""),
    ("RefreshToken", "lifetime = timedelta(days=1)", "its lifetimes are settings"),
    ("RefreshToken", "lifetime: timedelta = timedelta(days=1)", "its lifetimes are settings"),
    ("tokens.RefreshToken", "async def set_jti(self): pass", "its lifetimes are settings"),
    ("RefreshToken", "def set_jti(self): pass", "its lifetimes are settings"),
    ("RefreshToken", "'A docstring.'", ""),
    ("Somebody", "def validate(self, attrs): return {}", ""),
])  # fmt: skip
def test_override_without_effect_is_reported(project: Path, base: str, member: str, left: str) -> None:
    names = "JWTAuthentication, RefreshToken, TokenObtainPairSerializer, TokenObtainPairView, TokenRefreshSerializer"
    own = f"from tokens.x import {names}  {moving.IGNORE}\n"
    write(project, f"{own}\n\nclass Own({base}):\n    {member}\n")
    findings = findings_of(left=1 if left else 0)
    assert all(line.startswith("shop/code.py:5: Own.") and left in line for line in findings)
    write(project, f"{own}\n\nclass Own({base}):\n    {member}  # checksimplejwt: ignore\n")
    findings_of(left=0)


@pytest.mark.parametrize(("line", "left"), [
    ("class Invitation(Token): token_type = 'invitation'", "Invitation is a custom token type"),
    ("class Invitation(BlacklistMixin, tokens.Token): lifetime = DAY", "Use django.core.signing."),
    ("token = RefreshToken()", "RefreshToken() belongs to no session. Call RefreshToken.for_user(user)."),
    ("token = tokens.Access()", "tokens.Access() belongs to no session."),
    ("token = UntypedToken()", "UntypedToken() belongs to no session."),
    ("token = RefreshToken(text)", ""),
    ("token = UntypedToken(token=text)", ""),
    ("token = Elsewhere()", ""),
])  # fmt: skip
def test_token_without_a_session_is_reported(project: Path, line: str, left: str) -> None:
    names = "AccessToken as Access, BlacklistMixin, RefreshToken, Token, UntypedToken"
    own = f"from tokens.tokens import {names}\n"
    write(project, f"{own}{line}\n")
    findings = findings_of(left=1 if left else 0)
    assert all(finding.startswith("shop/code.py:2: ") and left in finding for finding in findings)
    write(project, f"{own}{line}  # checksimplejwt: ignore\n")
    findings_of(left=0)


def test_settings_without_effect_are_reported_with_their_place(project: Path, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**MOVED, "ALGORITHM": "HS256", "SLIDING_TOKEN_LIFETIME": 1, "TYPO": 1}
    write(project, "DEBUG = True\nSIMPLE_JWT = {\n    **{},\n    'ALGORITHM': 'HS256',\n}\n", "shop/settings.py")
    algorithm, sliding, typo = findings_of(left=3)
    assert algorithm.startswith("shop/settings.py:4: SIMPLE_JWT['ALGORITHM'] has no effect.")
    assert sliding.startswith("settings: SIMPLE_JWT['SLIDING_TOKEN_LIFETIME'] has no effect.")
    assert typo == "settings: SIMPLE_JWT['TYPO'] is not a setting."


def test_weak_key_is_reported_but_no_weak_key_of_old_tokens(
    project: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mail, "outbox")  # as outside tests
    settings.SECRET_KEY = "django-insecure-and-so-on"
    assert [finding.what.partition(" ")[0] for finding in moving.findings(project)] == ["SECRET_KEY"]
    settings.SECRET_KEY = token_urlsafe(64)
    settings.TOKENS_LEGACY = {"UNTIL": datetime(2100, 1, 1, tzinfo=UTC), "SIGNING_KEY": "django-insecure-and-so-on"}
    assert moving.findings(project) == []


def test_clients_that_may_not_rotate_are_reported(project: Path, settings: Settings) -> None:
    settings.SIMPLE_JWT = {}
    write(project, "SIMPLE_JWT = {}\n", "shop/settings.py")
    assert findings_of(left=1)[0].startswith("shop/settings.py:1: SIMPLE_JWT doesn't contain ROTATE_REFRESH_TOKENS.")
    settings.SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": False}
    findings_of(left=0)


@pytest.mark.parametrize(("setting", "value"), [
    ("REST_FRAMEWORK", {"DEFAULT_AUTHENTICATION_CLASSES": [GUARD]}),
    ("REST_FRAMEWORK", {"DEFAULT_AUTHENTICATION_CLASSES": [Cookies], "PAGE_SIZE": 3}),
    ("REST_FRAMEWORK", {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.nowhere.Guard", "nonsense"]}),
    ("DJOSER", {"SERIALIZERS": {"a": "rest_framework_simplejwt.serializers.TokenObtainPairSerializer"}}),
    ("REST_AUTH", {"JWT_TOKEN_CLAIMS_SERIALIZER": serializers.TokenObtainPairSerializer}),
])  # fmt: skip
def test_other_packages_settings_with_simplejwts_classes_are_reported(
    project: Path, settings: Settings, setting: str, value: dict[str, Any]
) -> None:
    setattr(settings, setting, value)
    write(project, f"\n\nx = [{GUARD!r}]\n", "shop/settings.py")
    [finding] = findings_of(left=1)
    place = "shop/settings.py:3" if GUARD in str(value) else "settings"
    assert finding.startswith(f"{place}: {setting}['")


def test_dj_rest_auth_needs_a_serializer_of_ours_and_its_cookie_a_name(project: Path, settings: Settings) -> None:
    settings.TOKENS_LEGACY = {"UNTIL": datetime(2100, 1, 1, tzinfo=UTC)}
    settings.REST_AUTH = {"USE_JWT": True, "JWT_AUTH_REFRESH_COOKIE": "my-refresh"}
    claims, cookie = findings_of(left=2)
    assert "Set JWT_TOKEN_CLAIMS_SERIALIZER to 'tokens.serializers.TokenObtainPairSerializer'" in claims
    assert cookie == "settings: TOKENS_LEGACY['COOKIES'] must list 'my-refresh'."
    settings.TOKENS_LEGACY |= {"COOKIES": ["my-refresh"]}
    settings.REST_AUTH |= {"JWT_TOKEN_CLAIMS_SERIALIZER": TokenObtainPairSerializer}
    findings_of(left=0)


def test_blacklists_command_must_not_come_before_ours(project: Path, settings: Settings) -> None:
    settings.TOKENS_LEGACY = {"UNTIL": datetime(2100, 1, 1, tzinfo=UTC)}
    others = [app for app in settings.INSTALLED_APPS if "admin" not in app.lower()]
    settings.INSTALLED_APPS = ["rest_framework_simplejwt.token_blacklist", *others]
    [finding] = moving.findings(project)
    assert finding.what.startswith("INSTALLED_APPS must list tokens before rest_framework_simplejwt.token_blacklist, ")


def test_urls_of_simplejwts_views_and_guards_are_reported(project: Path, settings: Settings) -> None:
    class Urls(ModuleType):
        urlpatterns = [
            path("api/", include([path("login/", views.TokenObtainPairView.as_view())])),
            path("orders/", Guarded.as_view()),
            path("verify/", TokenVerifyView.as_view()),
            re_path("^verify/$", views.TokenVerifyView.as_view()),  # is never reached
            path("renew/", TokenRefreshView.as_view()),
            re_path("^renew/?$", views.TokenRefreshView.as_view()),  # is reached without the slash
            re_path("^v[12]/plain$", HttpResponse),
            path("plain/", HttpResponse),
        ]

    settings.ROOT_URLCONF, settings.BASE_DIR = Urls("urls"), project
    login, orders, renew = findings_of(left=3)
    assert login.startswith("urls: /api/login/ is rest_framework_simplejwt.views.TokenObtainPairView: ")
    assert orders.startswith("urls: /orders/ is guarded by ")
    assert renew.startswith("urls: /renew/? is rest_framework_simplejwt.views.TokenRefreshView: ")
    settings.REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [Cookies]}
    assert [line.partition(" ")[0] for line in findings_of(left=3)] == ["settings:", "urls:", "urls:"]


def test_logout_of_dj_rest_auth_is_reported_unless_it_ends_the_session(settings: Settings) -> None:
    def logout(self: APIView, request: Any) -> None:
        """A stand-in for that of dj-rest-auth, which isn't installed here."""

    logout.__module__, logout.__qualname__ = "dj_rest_auth.views", "LogoutView.logout"
    theirs: Any = type("LogoutView", (APIView,), {"logout": logout})
    ended: Any = type("CookieLogoutView", (theirs,), {"logout": HttpResponse})

    class Urls(ModuleType):
        urlpatterns = [path("cas/logout/", theirs.as_view()), path("logout/", ended.as_view())]

    settings.ROOT_URLCONF = Urls("urls")
    findings_of(left=0)
    settings.REST_AUTH = {"USE_JWT": True, "JWT_TOKEN_CLAIMS_SERIALIZER": TokenObtainPairSerializer}
    assert findings_of(left=1)[0].startswith("urls: /cas/logout/ is ")


def test_what_old_tokens_contain_must_be_in_tokens_legacy(project: Path, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**MOVED, "AUDIENCE": "shop", "USER_ID_CLAIM": "user_id"}
    settings.TOKENS_LEGACY = {"UNTIL": datetime(2100, 1, 1, tzinfo=UTC)}
    write(project, "SIMPLE_JWT = {\n    'AUDIENCE': 'shop',\n}\n", "shop/settings.py")
    assert findings_of(left=1) == ["shop/settings.py:2: TOKENS_LEGACY must contain the old tokens' 'AUDIENCE'."]
    settings.TOKENS_LEGACY |= {"AUDIENCE": "shop"}
    findings_of(left=0)


def test_projects_own_class_is_reported_with_its_place(
    project: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        project,
        "\nfrom rest_framework_simplejwt import views\n\n\nclass Own(views.TokenVerifyView):\n    pass\n",
        "own_views.py",
    )
    monkeypatch.syspath_prepend(str(project))
    import own_views  # type: ignore[import-not-found]  # noqa: PLC0415 (written a moment ago)

    class Urls(ModuleType):
        urlpatterns = [path("verify/", own_views.Own.as_view())]

    settings.ROOT_URLCONF = Urls("urls")
    imported, view = findings_of(left=2)
    assert imported.startswith("own_views.py:2: ")
    assert view.startswith("own_views.py:5: /verify/ is own_views.Own")
    made: Any = type("Made", (views.TokenVerifyView,), {"__module__": "nowhere"})
    Urls.urlpatterns = [path("made/", made.as_view())]
    settings.ROOT_URLCONF = Urls("urls")
    assert findings_of(left=2)[1].startswith("urls: /made/ ")


def test_unreadable_urls_are_reported(settings: Settings) -> None:
    settings.ROOT_URLCONF = "nowhere.urls"
    assert findings_of(left=1)[0].startswith("ROOT_URLCONF: The URLs can't be read: ")
