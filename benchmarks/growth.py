"""Measures what grows during many refreshes: the table, its dead rows, and the memory of the workers."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from benchmarks.load import CLIENTS, post, send
from benchmarks.processes import children
from benchmarks.stacks import Stack

POOL = 10_000
"""The number of sessions, which are refreshed one after the other, again and again."""

GRACE = 61
"""Seconds after which a new token is exchanged instead of given back."""


class Moment(NamedTuple):
    minute: float
    refreshes: int
    """Their number so far."""

    table: int
    """Bytes, with its indexes."""

    dead: int
    """Rows that wait for vacuum."""

    memory: int
    """Bytes of the workers; a page that they share counts once."""


def soak(stack: Stack, refreshes: Sequence[str], minutes: float) -> list[Moment]:
    """Exchange each token at most once a minute, for that many minutes; return the measurements after each turn."""
    tokens, began, asked = list(refreshes), monotonic(), 0
    moments = [_look(stack, 0, 0)]
    while monotonic() - began < minutes * 60:
        turn = monotonic()
        answers = send(stack.port, [post("/api/token/refresh/", refresh=token) for token in tokens], CLIENTS).answers
        if wrong := [answer for answer in answers if answer.status != 200]:
            raise RuntimeError(f"A refresh was answered with {wrong[0]}.")
        tokens, asked = [answer.body["refresh"] for answer in answers], asked + len(answers)
        moments.append(_look(stack, (monotonic() - began) / 60, asked))
        sleep(max(0, turn + GRACE - monotonic()))
    return moments


def _look(stack: Stack, minute: float, refreshes: int) -> Moment:
    size = stack.database.execute("SELECT pg_total_relation_size('latchkey_session')")
    dead = stack.database.execute("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'latchkey_session'")
    workers = [stack.pid, *children()[stack.pid]]
    return Moment(minute, refreshes, size, dead, sum(map(_memory, workers)))


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
