"""What MkDocs calls while it builds the site."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)\s]+)\)")
DOCS = Path(__file__).parent


def on_page_markdown(markdown: str, *, page: Any, **kwargs: Any) -> str:
    """Replace a link to a file of the repository by its text, since the site has only the documentation.

    tests/test_docs.py checks that such a file exists.
    """
    folder = (DOCS / page.file.src_uri).parent

    def shorten(link: re.Match[str]) -> str:
        target = (folder / link[2].partition("#")[0]).resolve()
        return link[0] if target.is_relative_to(DOCS) else link[1]

    return LINK.sub(shorten, markdown)
