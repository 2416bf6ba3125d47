"""The programs that some tests need beside Python: their paths, and the reason to skip if one is missing."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import which

NODE_VERSION = (20, 11)


def find_node() -> str | None:
    node = which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return node if tuple(map(int, re.findall(r"\d+", version)))[:2] >= NODE_VERSION else None


CHROMIUM = which("chromium-headless-shell") or which("chromium") or which("chromium-browser") or which("google-chrome")
WHOLE_CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
"""One with a back/forward cache, which the headless shell has not."""

NODE = find_node()
PGBOUNCER = which("pgbouncer") or which("pgbouncer", path="/usr/sbin")
NGINX = which("nginx") or which("nginx", path="/usr/sbin")
SYSTEMD_ANALYZE = which("systemd-analyze")
PROMETHEUS, PROMTOOL = which("prometheus"), which("promtool")


def installed(program: str) -> str | None:
    """Return the path of a package's program in this environment, even if the environment isn't activated."""
    return which(program, path=str(Path(sys.executable).parent)) or which(program)


CADDY = installed("caddy")
CHECK_JSONSCHEMA = installed("check-jsonschema")
HADOLINT = installed("hadolint")
KUBERNETES_VALIDATE = installed("kubernetes-validate")
FOR_DEPLOY = "pip install -r tests/deploy/requirements.txt, as make deploy-test does"

NEEDS = {
    "tests/browser/": (
        CHROMIUM,
        "The browser tests were not run: they need Chromium (apt-get install chromium-headless-shell).",
    ),
    "tests/browser/test_back_forward.py": (
        WHOLE_CHROMIUM,
        "The back/forward cache was not tried: that needs the whole Chromium (apt-get install chromium).",
    ),
    "tests/client/": (
        NODE,
        "The tests of the client were not run: they need Node.js 20.11 or newer (https://nodejs.org).",
    ),
    "tests/proof/test_pooler.py": (
        PGBOUNCER,
        "The tests of a connection pool were not run: they need PgBouncer (apt-get install pgbouncer).",
    ),
    **{
        f"tests/site/test_{name}.py": (
            NODE and CHROMIUM,
            f"The tutorial {name} was not done: it needs Node.js 20.19 or newer and Chromium.",
        )
        for name in ("mobile", "nextjs", "react")
    },
    "tests/deploy/test_nginx.py": (
        NGINX,
        "The tests behind nginx were not run: they need it (apt-get install nginx-light).",
    ),
    "tests/deploy/test_watching.py": (
        PROMETHEUS and PROMTOOL,
        "The alerts were not tried: that needs Prometheus (apt-get install prometheus).",
    ),
    "tests/deploy/test_manifests.py::test_unit": (
        SYSTEMD_ANALYZE,
        "The units were not checked: that needs systemd-analyze (apt-get install systemd).",
    ),
    "tests/deploy/": (
        CADDY and CHECK_JSONSCHEMA and HADOLINT and KUBERNETES_VALIDATE,
        f"The tests of deploy/ were not run: they need more packages ({FOR_DEPLOY}).",
    ),
}


def missing(nodeid: str) -> str:
    """Return why a test is skipped that lacks its program; empty if the program is there."""
    return next((line for folder, (found, line) in NEEDS.items() if nodeid.startswith(folder) and not found), "")
