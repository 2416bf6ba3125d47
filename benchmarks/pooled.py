"""Several application servers that share one PostgreSQL, with PgBouncer in transaction mode between them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.databases import Database
from benchmarks.load import CLIENTS, Answer, get, post, send
from benchmarks.processes import cpu
from benchmarks.stacks import LATCHKEY, server
from tests.proof.pooler import pooled

SERVERS = (2, 4)
CONNECTIONS = 4
"""The connections of PgBouncer to PostgreSQL."""


class Spent(NamedTuple):
    """CPU milliseconds of one request."""

    workers: float
    pooler: float
    database: float


class Pooled(NamedTuple):
    servers: int
    connections: int
    """The connections of PostgreSQL, after the requests."""

    refresh: Spent
    guarded: Spent


def measure(database: Database, servers: int, tokens: Sequence[str], *, pooler: bool) -> Pooled:
    """Refresh at one server and call another with the new token, so two servers handle each session."""
    address = urlsplit(database.url)
    with ExitStack() as running:
        url, pid = database.url, 0
        if pooler:
            host = address.query.removeprefix("host=")
            url, pid = running.enter_context(pooled(host, address.path[1:], CONNECTIONS))
        started = [
            running.enter_context(server(Database(url, database.pid), LATCHKEY.environment)) for _ in range(servers)
        ]
        ports, groups = [port for port, _ in started], [[pid for _, pid in started], [pid], [database.pid]]
        refreshed, refresh = ask(ports, groups, [post("/api/token/refresh/", refresh=token) for token in tokens])
        accesses = [answer.body["access"] for answer in refreshed]
        _, guarded = ask([*ports[1:], ports[0]], groups, [get("/guarded", access) for access in accesses])
        connections = database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return Pooled(servers, connections, refresh, guarded)


def ask(ports: Sequence[int], groups: Sequence[Sequence[int]], requests: Sequence[bytes]) -> tuple[list[Answer], Spent]:
    """Send each server its part at the same time; return the responses, and the CPU time of the processes."""
    before = [sum(map(cpu, group)) for group in groups]
    part = len(requests) // len(ports)
    with ThreadPoolExecutor(len(ports)) as pool:
        parts = [
            pool.submit(send, port, requests[index * part : (index + 1) * part], CLIENTS // len(ports))
            for index, port in enumerate(ports)
        ]
        answers = [answer for done in parts for answer in done.result().answers]
    if wrong := [answer for answer in answers if answer.status != 200]:
        raise RuntimeError(f"A server answered with {wrong[0]}.")
    after = [sum(map(cpu, group)) for group in groups]
    return answers, Spent(*((now - then) * 1000 / len(answers) for now, then in zip(after, before, strict=True)))
