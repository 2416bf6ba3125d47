"""Latchkey and SimpleJWT, each a running server, and what is asked of them."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.databases import Database
from benchmarks.load import PASSWORD, USERS, Answer, get, post, send
from benchmarks.processes import run
from tests.server import serve

ALONE = 25
"""Requests of one client, whose latency is measured."""

TOGETHER = 75
"""Requests of several clients at once, whose throughput is measured."""

CLIENTS = 8


@dataclass(frozen=True)
class Kind:
    name: str
    tables: list[str]
    """Where its tokens leave rows."""


LATCHKEY = Kind("Latchkey", ["latchkey_session"])
SIMPLEJWT = Kind("SimpleJWT", ["token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"])


@dataclass
class Stack:
    kind: Kind
    port: int
    database: Database
    statements: dict[str, int]
    """How many each operation sends."""

    rates: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Requests a second, by operation, of each round."""

    latencies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds, by operation, of each request."""

    refreshes = rows = 0
    """How many there were, and how many rows they left."""

    def round(self) -> Iterator[None]:
        """Do each operation once for each of as many sessions, one at each step of the iterator."""
        names = [USERS[number % len(USERS)] for number in range(ALONE + TOGETHER)]
        logged_in = self._measure("login", [post("/api/token/", username=name, password=PASSWORD) for name in names])
        yield
        exchanges = [post("/api/token/refresh/", refresh=answer.body["refresh"]) for answer in logged_in]
        before = self.database.rows(self.kind.tables)
        refreshed = self._measure("refresh", exchanges)
        self.rows += self.database.rows(self.kind.tables) - before
        self.refreshes += len(refreshed)
        yield
        if self.kind is LATCHKEY:
            again = self._measure("retry", exchanges)
            if [answer.body["refresh"] for answer in again] != [answer.body["refresh"] for answer in refreshed]:
                raise RuntimeError("A retry gave another refresh token.")
        yield
        for operation in ("guarded, first use", "guarded", "guarded, stateless"):
            path = "/stateless" if operation == "guarded, stateless" else "/guarded"
            self._measure(operation, [get(path, answer.body["access"]) for answer in refreshed])
            yield

    def _measure(self, operation: str, requests: list[bytes]) -> list[Answer]:
        """Send some requests one after the other, and the others at once; return the answers in the same order."""
        alone = send(self.port, requests[:ALONE], 1)
        together = send(self.port, requests[ALONE:], CLIENTS)
        answers = alone.answers + together.answers
        if wrong := [answer for answer in answers if answer.status != 200]:
            raise RuntimeError(f"{self.kind.name} answered a {operation} with {wrong[0]}.")
        self.latencies[operation] += [answer.seconds for answer in alone.answers]
        self.rates[operation].append(len(together.answers) / together.seconds)
        return answers


@contextmanager
def running(kind: Kind, database: Database) -> Iterator[Stack]:
    environment: dict[str, Any] = {"DJANGO_SETTINGS_MODULE": "benchmarks.settings", "BENCHMARK": kind.name}
    statements = json.loads(run(database.url, environment, "benchmarks.prepare"))
    with serve(database.url, **environment) as url:
        yield Stack(kind, int(url.rpartition(":")[2]), database, statements)
