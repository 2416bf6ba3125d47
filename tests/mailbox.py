"""The mails that a server has written into a folder, with EMAIL_URL=filemail:///folder."""

import email
import email.policy
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

PATIENCE = 60  # seconds


def find_link(mails: Path, pattern: str) -> re.Match[str]:
    """Wait for a mail with a link that matches the pattern, and return the match."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        for file in mails.iterdir():
            if link := re.search(pattern, _plain_text(file)):
                return link
        sleep(0.1)
    raise AssertionError(f"No mail has come with {pattern}")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def _plain_text(file: Path) -> str:
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    body = mail.get_body(("plain",))
    return str(body.get_content()) if body else ""
