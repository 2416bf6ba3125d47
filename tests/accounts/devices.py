"""What ann signs in with beside the password: a device that computes codes without the project's code."""

import hashlib
import hmac
import struct
from base64 import b32decode
from dataclasses import dataclass
from time import time
from typing import Any

from accounts.models import User
from tests.clients import PASSWORD, App, Browser, claims_of


class Device:
    def __init__(self, secret: str) -> None:
        self.key = b32decode(secret)

    def code(self, steps: int = 0) -> str:
        """Return the current code, or the code that many steps later (RFC 6238)."""
        digest = hmac.digest(self.key, struct.pack(">Q", int(time()) // 30 + steps), hashlib.sha1)
        start = digest[-1] & 15
        (number,) = struct.unpack(">I", digest[start : start + 4])
        return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"

    def wrong(self) -> str:
        """Return a code that is not valid at this time."""
        near = {self.code(steps) for steps in range(-5, 6)}
        return next(code for code in map("{:06}".format, range(20)) if code not in near)


@dataclass(frozen=True)
class Enrolled:
    device: Device
    codes: list[str]
    """For recovery."""


def set_up(browser: Browser) -> Enrolled:
    """Enable a second factor for the user of that browser. This uses the current code up."""
    device = Device(enrol(browser).json()["secret"])
    return Enrolled(device, confirm(browser, device.code()).json()["recoveryCodes"])


def enrol(browser: Browser, password: str = PASSWORD) -> Any:
    """Ask for a secret, with a verified address."""
    User.objects.filter(pk=claims_of(browser.access)["sub"]).update(email_verified=True)
    return browser.post("/auth/second-factor", {"currentPassword": password}, browser.access)


def confirm(browser: Browser, code: str) -> Any:
    return browser.post("/auth/second-factor/confirm", {"code": code}, browser.access)


def challenge(client: Browser | App | None = None, password: str = PASSWORD) -> str:
    """Sign in as ann, up to the second step; return the challenge."""
    response = (client or Browser()).login(password=password)
    assert (response.status_code, response.json()["code"]) == (401, "second_factor_required")
    return str(response.json()["challenge"])
