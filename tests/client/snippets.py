"""The code in docs/client.md, changed to use the packages and the servers of the tests."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def snippets(package: str) -> list[str]:
    """Return the blocks about the package, which is the last of ours that they import."""
    blocks = [block for _, block in BLOCK.findall((ROOT / "docs/client.md").read_text())]
    found = [block for block in blocks if re.findall(r'from "(latchkey-client[/\w]*)";', block)[-1:] == [package]]
    assert found
    return found


def placed(snippet: str, modules: str, server: str, api: str = "https://api.example.com") -> str:
    """Point a snippet to the modules here, to a server and to another API."""
    placed = re.sub(
        r'from "latchkey-client(/\w+)?";', lambda found: f'from "{modules}{found[1] or "/latchkey"}.js";', snippet
    )
    return placed.replace("https://auth.example.com", server).replace("https://api.example.com", api)
