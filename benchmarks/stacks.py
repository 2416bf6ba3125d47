"""Latchkey and other packages, each as a running server, and the requests to them."""

import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from benchmarks.databases import Database
from benchmarks.load import CLIENTS, PASSWORD, USERS, Answer, get, post, send
from benchmarks.processes import children, cpu, run, started_since
from tests.provers import Prover
from tests.server import serve

ALONE = 5
"""Requests of one client, whose latency is measured."""

TOGETHER = 20
"""Requests of several clients at once, whose throughput is measured."""

EACH = ALONE + TOGETHER
"""Requests of an operation in a round. They are few, so that the servers take turns often, whatever else runs."""

TURNS = 8
"""How often requests with and without a proof take turns in a round."""

OURS, THEIRS = ["latchkey_session"], ["token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"]
"""The tables in which tokens leave rows."""


@dataclass(frozen=True)
class Kind:
    name: str
    tables: list[str]
    package: str = "latchkey"
    settings: str = "benchmarks.settings"
    guarded: str = "/guarded"
    only_login: bool = False
    hash: str = "fast"
    limits: str = "off"

    @property
    def is_ours(self) -> bool:
        return self.package == "latchkey"

    @property
    def environment(self) -> dict[str, Any]:
        return {
            "DJANGO_SETTINGS_MODULE": self.settings,
            "BENCHMARK": self.package,
            "BENCHMARK_HASH": self.hash,
            "BENCHMARK_LIMITS": self.limits,
            "THROTTLING": self.limits,
        }


LATCHKEY = Kind("Latchkey", OURS)
SHIPPED = Kind("the project as shipped", OURS, settings="benchmarks.shipped", guarded="/api/me/")
SIMPLEJWT = Kind("SimpleJWT", THEIRS, package="djangorestframework-simplejwt")
LIMITED = Kind("Latchkey, with limits", OURS, only_login=True, limits="on")
HASHED = Kind("Latchkey, with a real hash", OURS, only_login=True, hash="real")
THEIRS_HASHED = replace(SIMPLEJWT, name="SimpleJWT, with a real hash", only_login=True, hash="real")
KINDS = (LATCHKEY, SHIPPED, SIMPLEJWT, LIMITED, HASHED, THEIRS_HASHED)


class Cost(NamedTuple):
    """The CPU milliseconds of one request."""

    workers: float
    database: float

    @property
    def all(self) -> float:
        return self.workers + self.database


@dataclass
class Stack:
    kind: Kind
    port: int
    pid: int
    database: Database
    statements: dict[str, int]
    """How many each operation sends."""

    costs: defaultdict[str, list[Cost]] = field(default_factory=lambda: defaultdict(list))
    """By operation, of each round."""

    rates: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Requests a second, by operation, of each round."""

    latencies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds, by operation, of each request."""

    users: deque[str] = field(default_factory=lambda: deque(USERS))
    """Begins with those of the next round."""

    refreshes = rows = 0
    """The number of refreshes, and of the rows that they left."""

    def next_users(self) -> list[str]:
        """Return the users of a round. They take turns too, so that none has many sessions."""
        # A real hash takes so long that one client is enough.
        names = list(islice(self.users, ALONE if self.kind.hash == "real" else EACH))
        self.users.rotate(-len(names))
        return names

    def round(self) -> Iterator[None]:
        """Do each operation once for each of that many sessions, one per step of the iterator."""
        names = self.next_users()
        logged_in = self.measure("login", [_login(name) for name in names])
        yield
        if self.kind.only_login:
            return
        exchanges = [_refresh(answer) for answer in logged_in]
        before = self.database.rows(self.kind.tables)
        refreshed = self.measure("refresh", exchanges)
        self.rows += self.database.rows(self.kind.tables) - before
        self.refreshes += len(refreshed)
        yield
        if self.kind.is_ours:
            again = self.measure("retry", exchanges)
            if [answer.body["refresh"] for answer in again] != [answer.body["refresh"] for answer in refreshed]:
                raise RuntimeError("A retry gave another refresh token.")
        yield
        for operation in ("guarded, first use", "guarded"):
            self.measure(operation, [get(self.kind.guarded, answer.body["access"]) for answer in refreshed])
            yield
        if self.kind is not SHIPPED:
            for operation, path in (("guarded, stateless", "/stateless"), ("no guard", "/open")):
                self.measure(operation, [get(path, answer.body["access"]) for answer in refreshed])
        yield
        revocations = [post("/api/token/blacklist/", refresh=answer.body["refresh"]) for answer in refreshed]
        self.measure("logout", revocations)
        yield
        if self.kind is LATCHKEY:
            yield from self._bound(names)

    def _bound(self, names: Sequence[str]) -> Iterator[None]:
        """Do each operation with a client that proves a key (RFC 9449), in turns with one that proves none."""
        prover, base = Prover(), "http://127.0.0.1"  # as its Host says
        plain = send(self.port, [_login(name) for name in names], CLIENTS).answers
        logins = [_login(name, prover.prove("POST", f"{base}/api/token/")) for name in names]
        bound = send(self.port, logins, CLIENTS).answers
        url = f"{base}/api/token/refresh/"
        # Refused, since it has no nonce yet.
        (refused,) = send(self.port, [_refresh(bound[0], prover.prove("POST", url))], 1).answers
        nonce = refused.header("DPoP-Nonce")
        for _ in range(TURNS):
            plain = self.measure("refresh, unbound", [_refresh(answer) for answer in plain])
            exchanges = [_refresh(answer, prover.prove("POST", url, nonce=nonce)) for answer in bound]
            bound = self.measure("refresh, bound", exchanges)
        yield
        without, access = [[answer.body["access"] for answer in answers] for answers in (plain, bound)]
        for prefix in ("first use, ", *[""] * TURNS):
            self.measure(f"{prefix}guarded, unbound", [get("/guarded", token) for token in without])
            proven = [get("/guarded", token, prover.prove("GET", f"{base}/guarded", token)) for token in access]
            self.measure(f"{prefix}guarded, bound", proven)
        yield

    def many(self, tokens: Sequence[str], operation: str) -> None:
        """Send one request with each of many tokens."""
        self.measure(operation, [get("/guarded", token) for token in tokens], alone=0)

    def measure(self, operation: str, requests: list[bytes], alone: int = ALONE, expected: int = 200) -> list[Answer]:
        """Send some requests one after the other, and the rest at once; return the responses in the same order.

        Raises RuntimeError if one has another status than expected.
        """
        before = cpu(self.pid), cpu(self.database.pid)
        first = send(self.port, requests[:alone], 1)
        together = send(self.port, requests[alone:], CLIENTS)
        used = [after - since for after, since in zip((cpu(self.pid), cpu(self.database.pid)), before, strict=True)]
        answers = first.answers + together.answers
        if wrong := [answer for answer in answers if answer.status != expected]:
            raise RuntimeError(f"{self.kind.name} answered a {operation} with {wrong[0]}.")
        self.costs[operation].append(Cost(*(seconds * 1000 / len(answers) for seconds in used)))
        self.latencies[operation] += [answer.seconds for answer in first.answers]
        self.rates[operation].append(len(together.answers) / together.seconds)
        return answers


def _login(name: str, proof: str = "") -> bytes:
    return post("/api/token/", proof, username=name, password=PASSWORD)


def _refresh(answer: Answer, proof: str = "") -> bytes:
    return post("/api/token/refresh/", proof, refresh=answer.body["refresh"])


@contextmanager
def running(kind: Kind, database: Database) -> Iterator[Stack]:
    statements = json.loads(run(database.url, kind.environment, "benchmarks.prepare", kind.guarded))
    with server(database, kind.environment) as (port, pid):
        yield Stack(kind, port, pid, database, statements)


@contextmanager
def server(
    database: Database, environment: Mapping[str, Any], python: str = sys.executable
) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and the process that starts its workers."""
    before = children()[os.getpid()]
    with serve(database.url, python=python, **environment) as url:
        yield int(url.rpartition(":")[2]), started_since(before)
