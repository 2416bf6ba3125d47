"""Clients of the project: reads one request a line and prints one response a line, both as JSON."""

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402


def ask(path: str, token: str = "", **body: Any) -> list[Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if path == "/me/":
        answer: Any = Client().get(path, headers=headers)
    else:
        answer = Client().post(path, body, content_type="application/json", headers=headers)
    return [answer.status_code, answer.json() if answer.content else None]


def browse(path: str, cookies: dict[str, str], method: str = "POST", **body: Any) -> list[Any]:
    """Return the response, and the browser's cookies after it."""
    browser = Client(enforce_csrf_checks=True)
    browser.cookies.load(cookies)
    answer: Any = browser.generic(method, path, json.dumps(body), content_type="application/json")
    return [answer.status_code, answer.json(), {name: cookie.value for name, cookie in browser.cookies.items()}]


def sign_up(*names: str) -> None:
    for name in names:
        User.objects.create_user(name, password="correct horse")


def delete(name: str) -> None:
    User.objects.get(username=name).delete()


def run(sql: str) -> None:
    for statement in sql.split(";")[:-1]:
        with connection.cursor() as cursor:
            cursor.execute(statement)


json.dump([globals()[act](*args, **kwargs) for act, args, kwargs in json.load(sys.stdin)], sys.stdout)
