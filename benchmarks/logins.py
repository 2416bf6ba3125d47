"""Measures whether the time of a refused login reveals why it was refused."""

import random
from statistics import median

from benchmarks.databases import Database
from benchmarks.load import post, send
from benchmarks.processes import run
from tests.server import serve

TRIES = 50
TOLERANCE = 0.10
PASSWORD = "the analytical engine"

LOGINS = {
    "unknown": post("/auth/login", username="nobody", password=PASSWORD),
    "wrong password": post("/auth/login", username="ada", password="the difference engine"),
    "deactivated": post("/auth/login", username="charles", password=PASSWORD),
}


def refused_logins(database: Database) -> dict[str, float]:
    """Return the median time, in milliseconds, of each kind of refused login, with passwords hashed as always.

    Other work of the machine moves them apart, so they are measured up to three times; a real difference remains.
    """
    settings = "tests.settings_server"
    run(database.url, {"DJANGO_SETTINGS_MODULE": settings}, "django", "migrate", "--verbosity=0")
    with serve(database.url, DJANGO_SETTINGS_MODULE=settings, THROTTLING="off") as url:
        port = int(url.rpartition(":")[2])
        for name in ("ada", "charles"):
            send(port, [post("/auth/register", username=name, password=PASSWORD)], 1)
        database.execute("UPDATE accounts_user SET is_active = false WHERE username = 'charles'")
        attempts = [_medians(port)]
        while spread(attempts[-1]) >= TOLERANCE and len(attempts) < 3:
            attempts.append(_medians(port))
        return attempts[-1]


def _medians(port: int) -> dict[str, float]:
    kinds = [kind for _ in range(TRIES) for kind in random.sample(list(LOGINS), len(LOGINS))]
    answers = send(port, [LOGINS[kind] for kind in kinds], 1).answers
    seconds: dict[str, list[float]] = {kind: [] for kind in LOGINS}
    for kind, answer in zip(kinds, answers, strict=True):
        if answer.status != 401 or answer.body["code"] != "invalid_credentials":
            raise RuntimeError(f"A login ({kind}) was answered with {answer}.")
        seconds[kind].append(answer.seconds)
    return {kind: median(times) * 1000 for kind, times in seconds.items()}


def spread(medians: dict[str, float]) -> float:
    """Return by how much the slowest differs from the fastest, as a part of the fastest."""
    return max(medians.values()) / min(medians.values()) - 1
