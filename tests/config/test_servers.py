"""The entry points of servers: wsgi, asgi and gunicorn's configuration."""

import datetime
import gc
import os
import runpy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import mail
from django.db.backends.signals import connection_created
from gunicorn.config import Config

import config.gunicorn
from config.serving.waiting import limit


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Remove the limit afterwards: the other tests of this process may wait for their database."""
    yield
    connection_created.disconnect(limit)


@pytest.mark.parametrize("entry", ["config.wsgi", "config.asgi"])
def test_entry_point_is_an_application(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.delenv("PGTZ", raising=False)
    assert callable(runpy.run_module(entry)["application"])
    assert connection_created.disconnect(limit)  # the limit is in effect
    assert os.environ["PGTZ"] == "UTC"  # saves the one statement that comes before the limit


@pytest.mark.parametrize("entry", ["config.wsgi", "config.asgi"])
def test_unsafe_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, settings: Any, entry: str) -> None:
    monkeypatch.delattr(mail, "outbox")  # tells the checks that tests are running
    settings.DEBUG = False
    settings.SECRET_KEY = "short"
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(entry)
    assert "latchkey.E" in str(caught.value)


def test_gunicorn_listens_on_the_configured_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setattr(config.settings, "PORT", 8080)
    monkeypatch.setenv("WORKERS", "3")
    configuration = runpy.run_path(config.gunicorn.__file__)
    assert configuration["bind"] == "0.0.0.0:8080"
    assert configuration["workers"] == 3


def test_gunicorn_trusts_no_forwarded_header() -> None:
    assert config.gunicorn.forwarded_allow_ips == ""
    assert config.gunicorn.secure_scheme_headers == {}
    assert config.gunicorn.control_socket_disable is True


def test_gunicorn_exempts_what_its_workers_share_from_garbage_collection() -> None:
    before = gc.get_freeze_count()
    config.gunicorn.pre_fork(None, None)
    assert gc.get_freeze_count() > before


@pytest.mark.parametrize("more", ["", " %({via}i)s"])
def test_access_log_contains_no_query_and_no_line_break(more: str) -> None:
    configured = Config()
    configured.set("access_log_format", config.gunicorn.access_log_format + more)
    logger = config.gunicorn.EscapingLogger(configured)
    environ = {
        "REMOTE_ADDR": "192.0.2.1",
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a%0Ab?token=secret",
        "PATH_INFO": "/a\nb",
        "QUERY_STRING": "token=secret",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_USER_AGENT": 'quote" \x1b[31m',
    }
    response, request = SimpleNamespace(status="200 OK", sent=5, headers=[]), SimpleNamespace(headers=[("VIA", "a\n")])
    atoms = logger.atoms(response, request, environ, datetime.timedelta(seconds=1))
    line = configured.access_log_format % logger.atoms_wrapper_class(atoms)
    assert '"GET /a\\nb HTTP/1.1" 200 5' in line
    assert line.endswith("a\\n") is bool(more)
    assert "secret" not in line
    assert line.isprintable()
