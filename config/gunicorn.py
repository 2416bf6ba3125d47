"""How gunicorn serves the project: `gunicorn -c python:config.gunicorn config.wsgi`."""

import atexit
import gc
import os
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

from gunicorn.glogging import Logger

from config.settings import METRICS_TOKEN, PORT, env


class EscapingLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Escape control characters in the access log: a path may contain a line break, %0A."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        if self.cfg.access_log_format == access_log_format:
            # For the few values that this line names, gunicorn would gather all headers and variables.
            req, resp = [], SimpleNamespace(status=resp.status, sent=resp.sent, headers=[])
            environ = {name: environ[name] for name in LOGGED if name in environ}
        atoms = super().atoms(resp, req, environ, request_time)
        return {name: escape(value) if isinstance(value, str) else value for name, value in atoms.items()}


def escape(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


HOST = env.string("HOST", default="127.0.0.1")
bind = f"{HOST}:{PORT}"
workers = env.integer("WORKERS", default=2, minimum=1, maximum=1000)
threads = env.integer("THREADS", default=4, minimum=1, maximum=1000)
worker_class = "config.serving.worker.Worker"

# Load and check the project once, before there are workers. The first request connects to the database, so processes
# share no connection.
preload_app = True


def pre_fork(server: Any, worker: Any) -> None:
    """Exempt what is loaded from garbage collection, which would copy the memory that the processes share."""
    gc.freeze()


timeout = 30  # seconds
graceful_timeout = 10  # seconds
keepalive = 5  # seconds

# A heartbeat file on a slow disk would stall the workers.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def remove(folder: str, owner: int) -> None:
    """Remove the folder when the process that made it ends. A worker that ends leaves it to the others."""
    if os.getpid() == owner:
        rmtree(folder, ignore_errors=True)


if METRICS_TOKEN:
    # Each worker counts in its own files in this folder, and the worker that is asked adds them up. The files of an
    # ended worker stay, or the sums would fall. The library reads this when it is imported.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = mkdtemp(prefix="latchkey-metrics-", dir=worker_tmp_dir)
    atexit.register(remove, os.environ["PROMETHEUS_MULTIPROC_DIR"], os.getpid())

# TRUSTED_PROXIES alone decides which headers to trust. By default gunicorn trusts X-Forwarded-Proto from this machine.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}

# No socket that controls the running server.
control_socket_disable = True

logger_class = EscapingLogger
errorlog = "-"
accesslog = "-"
# The path without its query, which may contain a secret.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s %(D)sus "%(a)s"'
LOGGED = ("REMOTE_ADDR", "REQUEST_METHOD", "RAW_URI", "PATH_INFO", "SERVER_PROTOCOL", "HTTP_USER_AGENT")
