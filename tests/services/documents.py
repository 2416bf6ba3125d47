"""The code in the documentation, for tests that run it."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOST = "https://auth.example.com"
HOSTLESS = ("urls.py", "prove_with_joserfc.py")
"""Files that name no host of the issuer."""


def files(document: str) -> dict[str, str]:
    """Return the code blocks that begin with a file name, by that name."""
    named = re.findall(r"```\w+\n(?:#|//) ([\w.-]+)\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)
    assert len(dict(named)) == len(named)
    return dict(named)


def commands(document: str) -> list[str]:
    """Return the shell commands, a string for each block."""
    return re.findall(r"```sh\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def write(folder: Path, document: str, *names: str, host: str) -> None:
    """Write files of the document into the folder, with another host instead of the example's."""
    for name in names:
        code = files(document)[name]
        assert HOST in code or name in HOSTLESS
        (folder / name).write_text(code.replace(HOST, host))
