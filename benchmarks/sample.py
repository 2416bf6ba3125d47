"""What `benchmarks.scale` needs to know about a database. Runs in another process, with the project's settings."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils.module_loading import import_string
from rest_framework.test import APIClient


def auth_hash() -> str:
    """Return the fingerprint of the password, which all users share."""
    user: Any = get_user_model()._default_manager.first()
    return str(user.get_session_auth_hash())


def tokens(number: int) -> list[tuple[str, str]]:
    """Return a refresh token and an access token of each of so many live sessions, chosen by chance.

    None of them has been refreshed, so the next refresh doesn't count as a retry.
    """
    sessions, issued = apps.get_model("latchkey", "session").objects, import_string("tokens.tokens.RefreshToken")
    share = min(100.0, 300.0 * number / max(sessions.count(), 1))
    found = sessions.raw(f"SELECT * FROM latchkey_session TABLESAMPLE BERNOULLI ({share})")
    live = sessions.live().select_related("user").filter(pk__in=[session.pk for session in found], generation=0)
    pairs = [issued.of(session) for session in live.order_by("secret")[:number]]
    return [(str(refresh), str(refresh.access_token)) for refresh in pairs]


def statements() -> dict[str, list[str]]:
    """Return what a refresh and a guarded request send, without the names of the columns."""
    sent: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        short = re.sub(r"(SELECT|SET) .* (FROM latchkey_session|WHERE generation)", r"\1 ... \2", sql.replace('"', ""))
        sent.append(re.sub(r" (INNER JOIN|WHERE) ", r"\n    \1 ", short))
        return execute(sql, *rest)

    def send(request: Callable[[], Any]) -> Any:
        sent.clear()
        with connection.execute_wrapper(note):
            return request().json(), [*sent]

    http, ((refresh, _),) = APIClient(headers={"host": "127.0.0.1"}), tokens(1)
    new, refreshing = send(lambda: http.post("/api/token/refresh/", {"refresh": refresh}, format="json"))
    headers = {"authorization": f"Bearer {new['access']}"}
    _, first = send(lambda: http.get("/guarded", headers=headers))
    _, guarded = send(lambda: http.get("/guarded", headers=headers))
    return {"refresh": refreshing, "guarded, first use": first, "guarded": guarded}


if __name__ == "__main__":
    django.setup()
    match sys.argv[1:]:
        case ["auth_hash"]:
            print(auth_hash())
        case ["tokens", count]:
            print(json.dumps(tokens(int(count))))
        case ["statements"]:
            print(json.dumps(statements()))
