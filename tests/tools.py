"""The programs that some tests need beside Python: where they are, and what is said where they are not."""

from shutil import which

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
NODE = which("node")

NEEDS = {
    "tests/browser/": (CHROMIUM, "The browser tests were not run: they need Chromium (apt-get install chromium)."),
    "tests/client/": (NODE, "The tests of the client were not run: they need Node.js 20 (apt-get install nodejs)."),
}


def missing(nodeid: str) -> str:
    """Return what is to be said of a test that lacks its program; nothing if it has it."""
    return next((line for folder, (found, line) in NEEDS.items() if nodeid.startswith(folder) and not found), "")
