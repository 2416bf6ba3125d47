"""One race, in the environment of one package: `python race.py PEER ROUNDS`, with DATABASE_NAME and DATABASE_HOST.

Eight threads present the same refresh token at the same moment. Prints as JSON: the number of different tokens, the
number of refusals, whether the tokens work afterwards, and whether one plain retry works.
"""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Barrier
from typing import Any

from tests.proof.peers.packages import PEERS, Call, Peer

THREADS = 8
PASSWORD = "correct horse battery staple"

CONTRIB = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"]


def send(client: Any, call: Call) -> Any:
    if call.is_form:
        return client.post(call.path, call.body)
    return client.post(call.path, json.dumps(call.body), content_type="application/json")


def log_in(peer: Peer, client: Any) -> str:
    return peer.tokens(send(client, peer.login("ann", PASSWORD)).json()).refresh


def refresh(peer: Peer, client: Any, token: str) -> str:
    """Return the new token; empty if the request was refused."""
    response = send(client, peer.refresh(token))
    return peer.tokens(response.json()).refresh if response.status_code == 200 else ""


def set_up(peer: Peer) -> None:
    """Configure Django for the package, create its tables, and a user."""
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
        **peer.settings(),
    )
    import_module("django").setup()
    globals()["urlpatterns"] = peer.urls()
    import_module("django.core.management").call_command("migrate", verbosity=0)
    import_module("django.contrib.auth").get_user_model().objects.create_user("ann", "ann@example.com", PASSWORD)
    peer.prepare()


def in_parallel(act: Callable[[], str]) -> list[str]:
    """Return what eight threads get that call the function at the same moment; "error" for an exception."""
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

    def exchange(token: str) -> str:
        return refresh(peer, client_class(raise_request_exception=False), token)

    forked = most = refused = dead = retries = 0
    for _ in range(rounds):
        token = log_in(peer, client_class())
        answers = in_parallel(lambda token=token: exchange(token))  # type: ignore[misc]
        successors = {answer for answer in answers if answer not in ("", "error")}
        forked += len(successors) > 1
        most = max(most, len(successors))
        refused += sum(answer in ("", "error") for answer in answers)
        # Whether the client can continue with the response that it happened to store last.
        dead += not any(exchange(successor) for successor in sorted(successors)[-1:])
    for _ in range(rounds):
        token = log_in(peer, client_class())
        first = exchange(token)
        retries += bool(exchange(token)) and bool(exchange(first))
    token = log_in(peer, client_class())
    with queries(connection) as captured:
        exchange(token)
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
