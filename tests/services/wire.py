"""A plain HTTP client, and other programs as servers."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.clients import PASSWORD

PATIENCE = 60  # seconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: Any


def call(method: str, url: str, body: Any = None, form: Any = None, **headers: str) -> Answer:
    """Send JSON or a form; an underscore in a header's name stands for a hyphen."""
    request = Request(url, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})
    if body is not None:
        request.data, request.headers["Content-type"] = json.dumps(body).encode(), "application/json"
    if form is not None:
        request.data = urlencode(form).encode()
    try:
        response = urlopen(request, timeout=PATIENCE)
    except HTTPError as error:
        response = error
    with response:
        content = response.read()
        return Answer(response.status, response.headers, json.loads(content) if content else None)


@dataclass
class Client:
    """An app in which ann has signed in; it stores its tokens."""

    access: str
    refresh: str

    def refreshed(self, server: str) -> Answer:
        answer = call("POST", f"{server}/api/token/refresh/", {"refresh": self.refresh})
        if answer.status == 200:
            self.access, self.refresh = answer.body["access"], answer.body["refresh"]
        return answer

    def is_signed_in(self, server: str) -> bool:
        asked = call("GET", f"{server}/api/me/", Authorization=f"Bearer {self.access}")
        verified = call("POST", f"{server}/api/token/verify/", {"token": self.refresh})
        return (asked.status, verified.status) == (200, 200)


def sign_in(server: str) -> Client:
    answer = call("POST", f"{server}/api/token/", {"username": "ann", "password": PASSWORD})
    assert answer.status == 200, answer
    return Client(answer.body["access"], answer.body["refresh"])


@contextmanager
def running(command: list[str], url: str, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server in a folder, and wait until it responds at the URL."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    printed = folder / "output"
    with (
        printed.open("wb") as sink,
        subprocess.Popen(command, cwd=folder, env=inherited | environment, stdout=sink, stderr=sink) as process,
    ):
        try:
            deadline = monotonic() + PATIENCE
            while not _answers(url):
                if process.poll() is not None or monotonic() > deadline:
                    raise RuntimeError(f"{url} does not answer:\n{printed.read_text(errors='replace')}")
                sleep(0.05)
            yield
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        call("GET", url)
    except (URLError, ConnectionError):
        return False
    return True
