"""Other packages beside Latchkey: each runs in its own environment, and is measured at what it supports."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CalledProcessError
from urllib.parse import urlencode

from benchmarks.databases import Database
from benchmarks.load import PASSWORD, request, send
from benchmarks.processes import run
from benchmarks.stacks import Kind, Stack, server
from tests.proof.peers.packages import PEERS, Call, Peer, install

NAMES = ("dj-rest-auth", "django-allauth", "drf-auth-kit", "django-oauth-toolkit", "django-rest-knox")


def installed() -> dict[str, str]:
    """Install the packages; return the Python of each that could be installed."""
    pythons: dict[str, str] = {}
    for name in NAMES:
        print(f"Installing {name} ...", flush=True)
        try:
            pythons[name] = install(name)
        except CalledProcessError as error:
            print(f"{name} could not be installed: {error}", file=sys.stderr)
    return pythons


class PeerStack(Stack):
    ends_at_once = True
    """Whether an access token was refused right after the logout."""

    @property
    def peer(self) -> Peer:
        return PEERS[self.kind.package]()

    def round(self) -> Iterator[None]:
        """Do each operation of the package once for each session; there are as many sessions as in the other stacks."""
        peer = self.peer
        logged_in = self.measure("login", [as_bytes(peer.login(name, PASSWORD)) for name in self.next_users()])
        tokens = [peer.tokens(answer.body) for answer in logged_in]
        yield
        if peer.refresh_path:
            exchanges = [as_bytes(peer.refresh(each.refresh)) for each in tokens]
            tokens = [peer.tokens(answer.body) for answer in self.measure("refresh", exchanges)]
        yield
        asked = [request("GET", "/guarded", "", {"Authorization": peer.authorization(each)}) for each in tokens]
        self.measure("guarded", asked)
        yield
        self.measure("logout", [as_bytes(peer.logout(each)) for each in tokens], expected=peer.logged_out)
        (after,) = send(self.port, asked[:1], 1).answers
        self.ends_at_once &= after.status != 200


def as_bytes(call: Call) -> bytes:
    if call.is_form:
        body, kind = urlencode(call.body), "application/x-www-form-urlencoded"
    else:
        body, kind = json.dumps(call.body), "application/json"
    return request(call.method, call.path, body, {"Content-Type": kind, "Authorization": call.authorization})


@contextmanager
def running_peer(name: str, python: str, database: Database) -> Iterator[PeerStack]:
    kind = Kind(name, [], package=name)
    run(database.url, kind.environment, "benchmarks.prepare", python=python)
    with server(database, kind.environment, python) as (port, pid):
        yield PeerStack(kind, port, pid, database, {})
