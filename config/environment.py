"""Reading environment variables, by type."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

ORIGIN = re.compile(r"https?://([a-z0-9._-]{1,253}|\[[0-9a-f:.]{1,45}\])(:[0-9]{1,5})?")
"""The origin of a page, as browsers write it."""

HUNDRED_YEARS = 3_155_760_000  # seconds


class Env:
    """The environment's variables, by type.

    An empty one counts as not set. A malformed one raises ImproperlyConfigured with a message that names it, and shows
    the value only if it is no secret.
    """

    def __init__(self) -> None:
        self.asked: set[str] = set()
        """The names of the variables that were read."""

    def string(self, name: str, default: str | None = None) -> str:
        self.asked.add(name)
        value = os.environ.get(name, "").strip() or default
        if value is None:
            self.reject(name, "must be set")
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.string(name, str(default)).lower()
        if value not in {"true", "on", "1", "false", "off", "0"}:
            self.reject(name, f"must be true or false (or on, off, 1, 0), not {value!r}")
        return value in {"true", "on", "1"}

    def integer(self, name: str, default: int, minimum: int = 0, maximum: int = 1_000_000) -> int:
        value = self.string(name, str(default))
        if not re.fullmatch(r"[0-9]{1,18}", value) or not minimum <= int(value) <= maximum:
            self.reject(name, f"must be a whole number from {minimum} to {maximum}, not {value!r}")
        return int(value)

    def seconds(self, name: str, default: int, maximum: int = HUNDRED_YEARS) -> timedelta:
        return timedelta(seconds=self.integer(name, default, maximum=maximum))

    def choice(self, name: str, *choices: str) -> str:
        """Return one of the choices; the first is the default."""
        value = self.string(name, choices[0]).lower()
        if value not in choices:
            self.reject(name, f"must be {' or '.join(choices)}, not {value!r}")
        return value

    def items(self, name: str, default: str = "") -> list[str]:
        """Split at the commas."""
        return [item.strip() for item in self.string(name, default).split(",") if item.strip()]

    def hosts(self, name: str, default: str) -> list[str]:
        hosts = self.items(name, default)
        for host in hosts:
            if not re.fullmatch(r"\*|\.?[\w.-]+|\[[0-9A-Fa-f:.]+\]", host):
                self.reject(name, f"must contain host names like example.com, without a scheme or port, not {host!r}")
        return hosts

    def origins(self, name: str) -> list[str]:
        """Read origins as browsers write them: in lower case, without the scheme's default port."""
        origins = [origin.lower() for origin in self.items(name)]
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                self.reject(name, f"must contain origins like https://app.example.com, without a path, not {origin!r}")
        return [re.sub(r"^(http:.*):80$|^(https:.*):443$", r"\1\2", origin) for origin in origins]

    def address(self, name: str, default: str) -> str:
        """Read an http(s) URL, without its last slash.

        Its path has only characters that browsers and proxies leave as they are.
        """
        value = self.string(name, default).rstrip("/")
        path = r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*"
        if not re.fullmatch(rf"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?{path}", value):
            self.reject(name, f"must be a URL like https://example.com or https://example.com/path, not {value!r}")
        return value

    def cookie_name(self, name: str, default: str) -> str:
        value = self.string(name, default)
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):  # a token, RFC 6265 section 4.1.1
            self.reject(name, f"must consist of letters, digits, - and _, not {value!r}")
        return value

    def credentials(self, name: str) -> dict[str, str]:
        """Read id:secret pairs."""
        pairs = [item.partition(":") for item in self.items(name)]
        if not all(identifier and secret for identifier, _, secret in pairs):
            self.reject(name, "must contain comma-separated pairs like id:secret")
        if len({identifier for identifier, _, _ in pairs}) < len(pairs):
            self.reject(name, "must not repeat an id")
        return {identifier: secret for identifier, _, secret in pairs}

    def url(
        self, name: str, default: str, schemes: str, parse: Callable[[str], dict[str, Any]], example: str
    ) -> dict[str, Any]:
        """Read a URL as django-environ understands it. It may contain a password, so no message repeats it."""
        value = self.string(name, default)
        if not re.match(schemes, value):
            self.reject(name, f"must be a URL like {example}")
        try:
            return parse(value)
        except (ImproperlyConfigured, ValueError):
            self.reject(name, f"must be a URL like {example}")

    @staticmethod
    def reject(name: str, reason: str) -> NoReturn:
        raise ImproperlyConfigured(f"The environment variable {name} {reason}. See .env.example.") from None


def names_in(file: Path) -> list[str]:
    """Return the names of the variables in the file, in its order."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return []
    return re.findall(r"(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*\S", text)
