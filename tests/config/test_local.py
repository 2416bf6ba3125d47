"""`make run`: the messages of its server, also if it can't start."""

import errno
import socket
from typing import Any

import pytest

from config import local


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_in_use_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(local, "HOST", host)
        monkeypatch.setattr(local, "PORT", port)
        with pytest.raises(SystemExit) as caught:
            local.on_starting(None)
    expected = f"Port {port} is in use. Stop the other program or choose another port: make run PORT={port + 1}"
    assert str(caught.value) == expected
    local.on_starting(None)  # which no program uses any more


def test_other_address_errors_are_left_to_gunicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "HOST", "[2001:db8::1]")
    with pytest.raises(OSError, match=r"Errno") as caught:
        local.on_starting(None)
    assert caught.value.errno != errno.EADDRINUSE


def test_addresses_are_printed_once_it_listens(capsys: Any) -> None:
    local.when_ready(None)
    printed = capsys.readouterr().out
    for path in ("/", "/api/", "/api/docs/", "/admin/"):
        assert f"  http://localhost:8000{path}" in printed
