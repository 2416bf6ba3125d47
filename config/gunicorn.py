"""How gunicorn serves the project: `gunicorn -c python:config.gunicorn config.wsgi`."""

import atexit
import os
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from gunicorn.glogging import Logger

from config.settings import METRICS_TOKEN, PORT, env


class EscapingLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Write control characters in the access log as escapes: a path may hold a line break, %0A."""

    def atoms(self, *args: Any) -> dict[str, Any]:
        atoms = super().atoms(*args)
        return {name: escape(value) if isinstance(value, str) else value for name, value in atoms.items()}


def escape(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


HOST = env.string("HOST", default="127.0.0.1")
bind = f"{HOST}:{PORT}"
workers = env.integer("WORKERS", default=2, minimum=1, maximum=1000)
threads = env.integer("THREADS", default=4, minimum=1, maximum=1000)
worker_class = "config.serving.worker.Worker"

# Loaded and checked once, before there are workers. Nothing connects to the database until a request does, so no
# connection is shared between processes.
preload_app = True

timeout = 30  # seconds
graceful_timeout = 10  # seconds
keepalive = 5  # seconds

# A heartbeat file on a slow disk would stall the workers.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def remove(folder: str, owner: int) -> None:
    """Remove the folder at the end of the process that made it: a worker that ends leaves it to the others."""
    if os.getpid() == owner:
        rmtree(folder, ignore_errors=True)


if METRICS_TOKEN:
    # Each worker counts in files of its own in this folder, and whoever is asked adds them up. Those of a worker that
    # has ended stay, or the sums would fall. The library wants to know before it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = mkdtemp(prefix="latchkey-metrics-", dir=worker_tmp_dir)
    atexit.register(remove, os.environ["PROMETHEUS_MULTIPROC_DIR"], os.getpid())

# Whom to believe is decided in one place, by TRUSTED_PROXIES; by default gunicorn believes X-Forwarded-Proto
# from this machine.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}

# No socket to control a running server by.
control_socket_disable = True

logger_class = EscapingLogger
errorlog = "-"
accesslog = "-"
# The path without its query, which may hold a secret.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s %(D)sus "%(a)s"'
