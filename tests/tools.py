"""The programs that some tests need beside Python: where they are, and what is said where they are not."""

import re
import subprocess
from shutil import which

NODE_VERSION = (20, 11)


def find_node() -> str | None:
    node = which("node")
    if node is None:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return node if tuple(map(int, re.findall(r"\d+", told)))[:2] >= NODE_VERSION else None


CHROMIUM = which("chromium-headless-shell") or which("chromium") or which("chromium-browser") or which("google-chrome")
NODE = find_node()
PGBOUNCER = which("pgbouncer") or which("pgbouncer", path="/usr/sbin")

NEEDS = {
    "tests/browser/": (
        CHROMIUM,
        "The browser tests were not run: they need Chromium (apt-get install chromium-headless-shell).",
    ),
    "tests/client/": (
        NODE,
        "The tests of the client were not run: they need Node.js 20.11 or newer (https://nodejs.org).",
    ),
    "tests/proof/test_pooler.py": (
        PGBOUNCER,
        "The tests of a connection pool were not run: they need PgBouncer (apt-get install pgbouncer).",
    ),
}


def missing(nodeid: str) -> str:
    """Return what is to be said of a test that lacks its program; nothing if it has it."""
    return next((line for folder, (found, line) in NEEDS.items() if nodeid.startswith(folder) and not found), "")
