"""One race, in the environment of one package: `python race.py PEER ROUNDS`, with DATABASE_NAME and DATABASE_HOST.

Eight threads present the same refresh token in the same moment. What they get is printed as JSON: how many different
tokens, how many refusals, whether what they got is good afterwards, and whether one plain retry is.
"""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Barrier
from typing import Any

THREADS = 8
PASSWORD = "correct horse battery staple"

CONTRIB = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"]


def private_key() -> str:
    rsa = import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    serialization = import_module("cryptography.hazmat.primitives.serialization")
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return str(pem.decode())


class Peer:
    """How one package is set up, signed in to, and asked for a new token."""

    apps: list[str] = []
    settings: dict[str, Any] = {}
    middleware: list[str] = []
    login_path, refresh_path = "/login/", "/refresh/"
    field = "refresh"
    extra: dict[str, str] = {}
    content_type = "application/json"

    def urls(self) -> list[Any]:
        raise NotImplementedError

    def prepare(self) -> None:
        """Make what the package needs beside a user."""

    def login(self, client: Any) -> str:
        return self.token_in(self.post(client, self.login_path, {"username": "ann", "password": PASSWORD}))

    def refresh(self, client: Any, token: str) -> str:
        """Return the successor; empty if the answer was a refusal."""
        response = self.post(client, self.refresh_path, {self.field: token, **self.extra})
        return self.token_in(response) if response.status_code == 200 else ""

    def post(self, client: Any, path: str, data: dict[str, str]) -> Any:
        body = json.dumps(data) if self.content_type == "application/json" else data
        kind = {"content_type": self.content_type} if self.content_type == "application/json" else {}
        return client.post(path, body, **kind)

    def token_in(self, response: Any) -> str:
        return str(response.json()[self.field])


class Latchkey(Peer):
    apps = ["tokens"]
    login_path, refresh_path = "/api/token/", "/api/token/refresh/"

    def urls(self) -> list[Any]:
        return list(import_module("tokens.urls").urlpatterns)


class SimpleJWT(Peer):
    apps = ["rest_framework", "rest_framework_simplejwt.token_blacklist"]
    settings = {"SIMPLE_JWT": {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}}

    def urls(self) -> list[Any]:
        path, views = import_module("django.urls").path, import_module("rest_framework_simplejwt.views")
        return [
            path("login/", views.TokenObtainPairView.as_view()),
            path("refresh/", views.TokenRefreshView.as_view()),
        ]


class DjRestAuth(Peer):
    apps = [*SimpleJWT.apps, "dj_rest_auth"]
    settings = {
        **SimpleJWT.settings,
        "REST_AUTH": {"USE_JWT": True, "JWT_AUTH_HTTPONLY": False, "TOKEN_MODEL": None, "SESSION_LOGIN": False},
    }
    refresh_path = "/token/refresh/"

    def urls(self) -> list[Any]:
        return list(import_module("dj_rest_auth.urls").urlpatterns)


class Allauth(Peer):
    apps = ["django.contrib.sites", "allauth", "allauth.account", "allauth.headless", "allauth.usersessions"]
    settings = {
        "SITE_ID": 1,
        "HEADLESS_ONLY": True,
        "HEADLESS_TOKEN_STRATEGY": "allauth.headless.tokens.strategies.jwt.JWTTokenStrategy",
        "HEADLESS_JWT_ROTATE_REFRESH_TOKEN": True,
        "HEADLESS_FRONTEND_URLS": {},
        "ACCOUNT_EMAIL_VERIFICATION": "none",
        "ACCOUNT_RATE_LIMITS": False,
        "AUTHENTICATION_BACKENDS": ["allauth.account.auth_backends.AuthenticationBackend"],
    }
    middleware = ["allauth.account.middleware.AccountMiddleware"]
    login_path, refresh_path = "/_allauth/app/v1/auth/login", "/_allauth/app/v1/tokens/refresh"
    field = "refresh_token"

    def urls(self) -> list[Any]:
        urls = import_module("django.urls")
        return [urls.path("_allauth/", urls.include("allauth.headless.urls"))]

    def token_in(self, response: Any) -> str:
        body = response.json()
        return str((body.get("meta") or {}).get(self.field) or body["data"][self.field])


class OAuthToolkit(Peer):
    apps = ["oauth2_provider"]
    settings = {
        "OAUTH2_PROVIDER": {"ROTATE_REFRESH_TOKEN": True, "REFRESH_TOKEN_REUSE_PROTECTION": True},
        "LOGIN_URL": "/",
    }
    login_path = refresh_path = "/token/"
    field = "refresh_token"
    extra = {"grant_type": "refresh_token", "client_id": "races"}
    content_type = "form"

    def urls(self) -> list[Any]:
        path, views = import_module("django.urls").path, import_module("oauth2_provider.views")
        return [path("token/", views.TokenView.as_view())]

    def prepare(self) -> None:
        application = import_module("oauth2_provider.models").get_application_model()
        application.objects.create(client_id="races", client_type="public", authorization_grant_type="password")

    def login(self, client: Any) -> str:
        data = {"grant_type": "password", "client_id": "races", "username": "ann", "password": PASSWORD}
        return self.token_in(self.post(client, self.login_path, data))


PEERS: dict[str, type[Peer]] = {
    "latchkey-races": Latchkey,
    "djangorestframework-simplejwt": SimpleJWT,
    "dj-rest-auth": DjRestAuth,
    "django-allauth": Allauth,
    "django-oauth-toolkit": OAuthToolkit,
}


def set_up(peer: Peer) -> None:
    """Configure Django for the package, make its tables, and a user."""
    import_module("django.conf").settings.configure(
        SECRET_KEY="a key that is used for nothing but these races, and by nobody else",
        ALLOWED_HOSTS=["testserver"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": os.environ["DATABASE_NAME"],
                "USER": "postgres",
                "HOST": os.environ["DATABASE_HOST"],
            }
        },
        INSTALLED_APPS=[*dict.fromkeys([*CONTRIB, *peer.apps])],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            *peer.middleware,
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        ROOT_URLCONF=__name__,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        **({"HEADLESS_JWT_PRIVATE_KEY": private_key()} if isinstance(peer, Allauth) else {}),
        **peer.settings,
    )
    import_module("django").setup()
    globals()["urlpatterns"] = peer.urls()
    import_module("django.core.management").call_command("migrate", verbosity=0)
    import_module("django.contrib.auth").get_user_model().objects.create_user("ann", "ann@example.com", PASSWORD)
    peer.prepare()


def in_parallel(act: Callable[[], str]) -> list[str]:
    """Return what eight threads get that do it in the same moment; "error" where it raised."""
    connection = import_module("django.db").connection
    barrier = Barrier(THREADS)

    def run(_number: int) -> str:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=60)
            return act()
        except Exception:  # noqa: BLE001 (an error of the package is a result)
            return "error"
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def race(peer: Peer, rounds: int) -> dict[str, Any]:
    client_class: Any = import_module("django.test").Client
    queries: Any = import_module("django.test.utils").CaptureQueriesContext
    connection = import_module("django.db").connection

    def refresh(token: str) -> str:
        return peer.refresh(client_class(raise_request_exception=False), token)

    forked = most = refused = dead = retries = 0
    for _ in range(rounds):
        token = peer.login(client_class())
        answers = in_parallel(lambda token=token: refresh(token))  # type: ignore[misc]
        successors = {answer for answer in answers if answer not in ("", "error")}
        forked += len(successors) > 1
        most = max(most, len(successors))
        refused += sum(answer in ("", "error") for answer in answers)
        # Whether the client can go on, with whichever of the answers it happened to keep last.
        dead += not any(refresh(successor) for successor in sorted(successors)[-1:])
    for _ in range(rounds):
        token = peer.login(client_class())
        first = refresh(token)
        retries += bool(refresh(token)) and bool(refresh(first))
    token = peer.login(client_class())
    with queries(connection) as captured:
        refresh(token)
    return {
        "rounds": rounds,
        "forked": forked,
        "most": most,
        "refused": refused,
        "dead": dead,
        "retries": retries,
        "statements": len(captured),
    }


if __name__ == "__main__":
    sys.modules["race"] = sys.modules[__name__]
    chosen = PEERS[sys.argv[1]]()
    set_up(chosen)
    sys.stdout.write(json.dumps(race(chosen, int(sys.argv[2]))) + "\n")
