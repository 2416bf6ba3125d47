"""Other packages: how to install each, set it up, sign in, and refresh a token.

Every package's environment imports this module, so it imports a package only when that is needed.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
ENVIRONMENTS = ROOT / "build" / "peers"


class Call(NamedTuple):
    """A request, and the body that it has."""

    path: str
    body: dict[str, str]
    is_form: bool = False
    authorization: str = ""
    method: str = "POST"


class Tokens(NamedTuple):
    refresh: str
    """Empty if the package has none."""

    access: str


class Peer:
    apps: ClassVar[list[str]] = []
    middleware: ClassVar[list[str]] = []
    """The package's middleware, after that of Django's sessions, authentication and messages."""

    guard: ClassVar[str]
    """The authentication class of a guarded view."""

    stateless = ""
    """The authentication class that makes no database query, if there is one."""

    scheme = "Bearer"
    login_path, refresh_path, logout_path = "/login/", "/refresh/", "/logout/"
    logged_out = 200
    """The status of a logout."""

    def settings(self) -> dict[str, Any]:
        return {}

    def urls(self) -> list[Any]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Create what the package needs in addition to a user."""

    def login(self, name: str, password: str) -> Call:
        return Call(self.login_path, {"username": name, "password": password})

    def refresh(self, token: str) -> Call:
        return Call(self.refresh_path, {"refresh": token})

    def logout(self, tokens: Tokens) -> Call:
        return Call(self.logout_path, {"refresh": tokens.refresh}, authorization=self.authorization(tokens))

    def authorization(self, tokens: Tokens) -> str:
        return f"{self.scheme} {tokens.access}"

    def tokens(self, body: Any) -> Tokens:
        return Tokens(body["refresh"], body["access"])


class Latchkey(Peer):
    apps = ["rest_framework", "tokens"]
    guard = "tokens.authentication.JWTAuthentication"
    stateless = "tokens.authentication.StatelessJWTAuthentication"
    login_path, refresh_path = "/api/token/", "/api/token/refresh/"

    def urls(self) -> list[Any]:
        return list(import_module("tokens.urls").urlpatterns)


class SimpleJWT(Peer):
    apps = ["rest_framework", "rest_framework_simplejwt.token_blacklist"]
    guard = "rest_framework_simplejwt.authentication.JWTAuthentication"
    stateless = "rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"
    login_path, refresh_path, logout_path = "/api/token/", "/api/token/refresh/", "/api/token/blacklist/"

    def settings(self) -> dict[str, Any]:
        return {"SIMPLE_JWT": {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}}

    def urls(self) -> list[Any]:
        path, views = import_module("django.urls").path, import_module("rest_framework_simplejwt.views")
        return [
            path("api/token/", views.TokenObtainPairView.as_view()),
            path("api/token/refresh/", views.TokenRefreshView.as_view()),
            path("api/token/blacklist/", views.TokenBlacklistView.as_view()),
        ]


class DjRestAuth(SimpleJWT):
    apps = [*SimpleJWT.apps, "dj_rest_auth"]
    guard = "dj_rest_auth.jwt_auth.JWTCookieAuthentication"
    login_path, refresh_path, logout_path = "/login/", "/token/refresh/", "/logout/"

    def settings(self) -> dict[str, Any]:
        options = {"USE_JWT": True, "JWT_AUTH_HTTPONLY": False, "TOKEN_MODEL": None, "SESSION_LOGIN": False}
        return {**super().settings(), "REST_AUTH": options}

    def urls(self) -> list[Any]:
        return list(import_module("dj_rest_auth.urls").urlpatterns)


class AuthKit(SimpleJWT):
    apps = [*SimpleJWT.apps, "django.contrib.sites", "allauth", "allauth.account", "auth_kit"]
    middleware = ["allauth.account.middleware.AccountMiddleware"]
    guard = "auth_kit.authentication.JWTCookieAuthentication"
    login_path, refresh_path, logout_path = "/login", "/token/refresh", "/logout"

    def settings(self) -> dict[str, Any]:
        options = {"USE_AUTH_COOKIE": False, "AUTH_COOKIE_HTTPONLY": False, "FRONTEND_BASE_URL": "http://127.0.0.1"}
        return {
            **super().settings(),
            "SITE_ID": 1,
            "AUTH_KIT": options,
            "ACCOUNT_EMAIL_VERIFICATION": "none",
            "ACCOUNT_RATE_LIMITS": False,
        }

    def urls(self) -> list[Any]:
        return list(import_module("auth_kit.urls").urlpatterns)


class Allauth(Peer):
    apps = [
        "django.contrib.sites",
        "rest_framework",
        "allauth",
        "allauth.account",
        "allauth.headless",
        "allauth.usersessions",
    ]
    middleware = ["allauth.account.middleware.AccountMiddleware"]
    guard = "allauth.headless.contrib.rest_framework.authentication.JWTTokenAuthentication"
    login_path, refresh_path = "/_allauth/app/v1/auth/login", "/_allauth/app/v1/tokens/refresh"
    logout_path = "/_allauth/app/v1/auth/session"
    logged_out = 401  # "no longer signed in"

    def settings(self) -> dict[str, Any]:
        return {
            "SITE_ID": 1,
            "HEADLESS_ONLY": True,
            "HEADLESS_TOKEN_STRATEGY": "allauth.headless.tokens.strategies.jwt.JWTTokenStrategy",
            "HEADLESS_JWT_PRIVATE_KEY": private_key(),
            "HEADLESS_JWT_ROTATE_REFRESH_TOKEN": True,
            "HEADLESS_JWT_STATEFUL_VALIDATION_ENABLED": True,
            "HEADLESS_FRONTEND_URLS": {},
            "ACCOUNT_EMAIL_VERIFICATION": "none",
            "ACCOUNT_RATE_LIMITS": False,
            "AUTHENTICATION_BACKENDS": ["allauth.account.auth_backends.AuthenticationBackend"],
        }

    def urls(self) -> list[Any]:
        urls = import_module("django.urls")
        return [urls.path("_allauth/", urls.include("allauth.headless.urls"))]

    def refresh(self, token: str) -> Call:
        return Call(self.refresh_path, {"refresh_token": token})

    def logout(self, tokens: Tokens) -> Call:
        return Call(self.logout_path, {}, authorization=self.authorization(tokens), method="DELETE")

    def tokens(self, body: Any) -> Tokens:
        pair = body["meta"] if "access_token" in body.get("meta", {}) else body["data"]
        return Tokens(pair["refresh_token"], pair["access_token"])


class OAuthToolkit(Peer):
    apps = ["rest_framework", "oauth2_provider"]
    guard = "oauth2_provider.contrib.rest_framework.OAuth2Authentication"
    login_path = refresh_path = "/token/"
    logout_path = "/revoke/"

    def settings(self) -> dict[str, Any]:
        options = {"ROTATE_REFRESH_TOKEN": True, "REFRESH_TOKEN_REUSE_PROTECTION": True}
        return {"OAUTH2_PROVIDER": options, "LOGIN_URL": "/"}

    def urls(self) -> list[Any]:
        path, views = import_module("django.urls").path, import_module("oauth2_provider.views")
        return [path("token/", views.TokenView.as_view()), path("revoke/", views.RevokeTokenView.as_view())]

    def prepare(self) -> None:
        application = import_module("oauth2_provider.models").get_application_model()
        application.objects.create(client_id="peers", client_type="public", authorization_grant_type="password")

    def login(self, name: str, password: str) -> Call:
        return self._call(self.login_path, grant_type="password", username=name, password=password)

    def refresh(self, token: str) -> Call:
        return self._call(self.refresh_path, grant_type="refresh_token", refresh_token=token)

    def logout(self, tokens: Tokens) -> Call:
        return self._call(self.logout_path, token=tokens.refresh)

    def tokens(self, body: Any) -> Tokens:
        return Tokens(body["refresh_token"], body["access_token"])

    def _call(self, path: str, **body: str) -> Call:
        return Call(path, {"client_id": "peers", **body}, is_form=True)


class Knox(Peer):
    apps = ["rest_framework", "knox"]
    guard = "knox.auth.TokenAuthentication"
    scheme = "Token"
    refresh_path = ""
    logged_out = 204

    def urls(self) -> list[Any]:
        path, views = import_module("django.urls").path, import_module("knox.views")
        serializers = import_module("rest_framework.authtoken.serializers")

        class Login(views.LoginView):  # type: ignore[misc,name-defined]
            """The view in knox's documentation for a name and a password in the body."""

            authentication_classes = permission_classes = ()

            def post(self, request: Any, *args: Any) -> Any:
                serializer = serializers.AuthTokenSerializer(data=request.data)
                serializer.is_valid(raise_exception=True)
                request.user = serializer.validated_data["user"]
                return super().post(request, *args)

        return [path("login/", Login.as_view()), path("logout/", views.LogoutView.as_view())]

    def tokens(self, body: Any) -> Tokens:
        return Tokens("", body["token"])


PEERS: dict[str, type[Peer]] = {
    "latchkey": Latchkey,
    "djangorestframework-simplejwt": SimpleJWT,
    "dj-rest-auth": DjRestAuth,
    "django-allauth": Allauth,
    "django-oauth-toolkit": OAuthToolkit,
    "drf-auth-kit": AuthKit,
    "django-rest-knox": Knox,
}


def private_key() -> str:
    rsa = import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    serialization = import_module("cryptography.hazmat.primitives.serialization")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return str(pem.decode())


def pinned() -> dict[str, str]:
    """Return the lines of the requirements, by name."""
    files = (ROOT / "requirements.txt", HERE / "requirements.txt")
    lines = [line for file in files for line in file.read_text().splitlines() if "==" in line and line[0] != "#"]
    return {line.partition("==")[0].partition("[")[0]: line for line in lines}


def label(name: str) -> str:
    """Return the package's name and version, for a table."""
    return "Latchkey" if name == "latchkey" else f"{name} {pinned()[name].partition('==')[2]}"


def install(name: str) -> str:
    """Create an environment with this project's requirements and the package, unless it exists; return its Python.

    Raises CalledProcessError if the package can't be installed.
    """
    if PEERS[name] in (Latchkey, SimpleJWT):
        return sys.executable  # this project's own environment has them
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(ROOT / "requirements.txt"), pinned()[name]], check=True)
    return str(python)
