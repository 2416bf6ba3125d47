"""What clients do against the project as it is: one request and one answer a line, both JSON."""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402


def ask(path, token="", **body):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if path == "/me/":
        answer = Client().get(path, headers=headers)
    else:
        answer = Client().post(path, body, content_type="application/json", headers=headers)
    return [answer.status_code, answer.json() if answer.content else None]


def sign_up(*names):
    for name in names:
        User.objects.create_user(name, password="correct horse")


def delete(name):
    User.objects.get(username=name).delete()


def run(sql):
    for statement in sql.split(";")[:-1]:
        with connection.cursor() as cursor:
            cursor.execute(statement)


json.dump([globals()[act](*args, **kwargs) for act, args, kwargs in json.load(sys.stdin)], sys.stdout)
