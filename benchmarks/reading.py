"""Measures what compiled SELECTs save: reading a session and its user, with them and through Django's ORM."""

import json
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import django
from django.apps import apps
from django.utils.module_loading import import_string

from benchmarks.databases import Database
from benchmarks.processes import run

ROUNDS = 20
READS = 100
"""In a round."""


def reading(database: Database, environment: dict[str, Any]) -> dict[str, float]:
    """Return the median CPU milliseconds of one read in a process of its own.

    On SQLite they include the database, which has no process of its own.
    """
    return dict(json.loads(run(database.url, environment, "benchmarks.reading")))


def measure() -> dict[str, float]:
    sessions, read = apps.get_model("latchkey", "session").objects, import_string("tokens.domain.reading.read")
    session = sessions.get(pk=sessions.values("pk")[:1])
    ways: dict[str, Callable[[], Any]] = {
        "compiled": lambda: read(session.pk, "default", str(session.user_id)),
        "Django's ORM": lambda: sessions.select_related("user").get(pk=session.pk, user=session.user_id),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = process_time()
            for _ in range(READS):
                way()
            times[name].append((process_time() - began) * 1000 / READS)
    return {name: median(each) for name, each in times.items()}


if __name__ == "__main__":
    django.setup()
    print(json.dumps(measure()))
