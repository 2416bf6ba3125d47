"""Starts Chromium for all tests."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from tests.tools import CHROMIUM


@contextmanager
def running_chromium(*flags: str, program: str | None = CHROMIUM, without: Sequence[str] = ()) -> Iterator[Browser]:
    """Run the browser with a temporary home folder, so it leaves nothing in the user's.

    `without` are flags to leave out that Playwright sets.
    """
    with TemporaryDirectory(prefix="latchkey-chromium-", ignore_cleanup_errors=True) as home:
        own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), home)
        with sync_playwright() as playwright:
            # As root, its sandbox does not run.
            browser = playwright.chromium.launch(
                executable_path=program,
                ignore_default_args=list(without),
                args=["--disable-gpu", "--disable-quic", *flags],
                chromium_sandbox=os.geteuid() != 0,
                env={**os.environ, **own},
            )
            yield browser
            browser.close()
