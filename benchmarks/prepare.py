"""Make the tables and the users of one of the projects, and count the SQL statements of each operation.

Run in a process of its own, with the project's settings; prints the counts as JSON. For a package with other paths, it
counts none. With a number, it creates that many sessions instead, and prints an access token of each.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.module_loading import import_string
from rest_framework.test import APIClient

from benchmarks.load import PASSWORD, USERS

AT_ONCE = 1000


def prepare() -> None:
    call_command("migrate", verbosity=0)
    users = cast(Any, get_user_model())
    password = make_password(PASSWORD)
    keys = {"username_key"} & {field.name for field in users._meta.fields}
    users.objects.bulk_create(users(username=name, password=password, **dict.fromkeys(keys, name)) for name in USERS)


def statements(guarded: str) -> dict[str, int]:
    """Return how many statements each operation sends, BEGIN and COMMIT counted."""
    http, counts = APIClient(headers={"host": "127.0.0.1"}), {}

    def count(operation: str, send: Callable[[], Any]) -> Any:
        with CaptureQueriesContext(connection) as sent:
            response = send()
        if response.status_code == 200:
            counts[operation] = len(sent)
        return response.json()

    def post(path: str, **body: str) -> Callable[[], Any]:
        return lambda: http.post(path, body, format="json")

    def get(path: str, access: str) -> Callable[[], Any]:
        return lambda: http.get(path, headers={"authorization": f"Bearer {access}"})

    old = count("login", post("/api/token/", username=USERS[0], password=PASSWORD))["refresh"]
    new = count("refresh", post("/api/token/refresh/", refresh=old))
    count("retry", post("/api/token/refresh/", refresh=old))
    count("guarded, first use", get(guarded, new["access"]))
    count("guarded", get(guarded, new["access"]))
    count("logout", post("/api/token/blacklist/", refresh=new["refresh"]))
    counts["guarded, stateless"] = counts["no guard"] = 0
    return counts


def access_tokens(number: int) -> Iterator[str]:
    """Yield an access token for each of that many new sessions, or of SimpleJWT's logins."""
    users = [*get_user_model().objects.all()]
    owners: Iterator[Any] = (users[index % len(users)] for index in range(number))
    if not apps.is_installed("tokens"):
        yield from map(str, map(import_string("rest_framework_simplejwt.tokens.AccessToken").for_user, owners))
        return
    model, issued, now = (
        apps.get_model("latchkey", "session"),
        import_string("tokens.tokens.AccessToken"),
        timezone.now(),
    )
    while batch := [model(user=user, created_at=now, rotated_at=now) for user in islice(owners, AT_ONCE)]:
        for session in batch:
            session.auth_hash, session.expires_at = session.user.get_session_auth_hash(), session.expiry(now)
            session.groups = None
        model.objects.bulk_create(batch)
        yield from (str(issued.of(session)) for session in batch)


def main() -> None:
    match sys.argv[1:]:
        case [guarded]:
            prepare()
            print(json.dumps(statements(guarded)))
        case []:
            prepare()
            import_string("benchmarks.settings.PEER").prepare()
        case [_, number]:
            print(json.dumps([*access_tokens(int(number))]))


if __name__ == "__main__":
    django.setup()
    main()
