"""What docs/client.md shows for apps without a cookie jar, run by Node.js against the real server."""

import subprocess

import pytest
from django.contrib.auth import get_user_model

from tests.client.snippets import ROOT, placed, snippets
from tests.server import serve
from tests.tools import NODE


@pytest.mark.parametrize("snippet", snippets("latchkey-client/store"))
def test_snippet_of_the_page_runs(database_url: str, snippet: str) -> None:
    assert NODE
    get_user_model().objects.create_user("ada", password="the analytical engine")
    with serve(database_url) as url:
        code = placed(snippet, (ROOT / "client/src").as_uri(), url)
        command = [NODE, "--input-type=module", "--eval", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ada\n", done.stderr
