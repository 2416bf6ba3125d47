"""Make the tables and the users of one of the two projects, and count the SQL statements of each operation.

Run in a process of its own, with the project's settings; prints the counts as JSON.
"""

import json
from collections.abc import Callable
from typing import Any

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from benchmarks.load import PASSWORD, USERS


def prepare() -> None:
    call_command("migrate", verbosity=0)
    users = get_user_model()
    users.objects.bulk_create(users(username=name) for name in USERS)
    one = users.objects.first()
    assert one is not None
    one.set_password(PASSWORD)
    users.objects.update(password=one.password)


def statements() -> dict[str, int]:
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
    access = count("refresh", post("/api/token/refresh/", refresh=old))["access"]
    count("retry", post("/api/token/refresh/", refresh=old))
    count("guarded, first use", get("/guarded", access))
    count("guarded", get("/guarded", access))
    count("guarded, stateless", get("/stateless", access))
    return counts


if __name__ == "__main__":
    django.setup()
    prepare()
    print(json.dumps(statements()))
