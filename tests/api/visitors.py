"""Who browses the API in the tests: a browser that shows pages and has no access token."""

import re
from typing import Any

from django.http.cookie import SimpleCookie
from django.test import Client

from tests.clients import PASSWORD

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class Visitor:
    def __init__(self, username: str = "ann") -> None:
        self.username = username
        self.http = Client(enforce_csrf_checks=True, headers={"accept": ACCEPT})

    @property
    def cookie(self) -> str:
        cookies: SimpleCookie = self.http.cookies
        return cookies["browsing"].value if "browsing" in cookies else ""

    def sign_in(self, password: str = PASSWORD, **body: str) -> Any:
        page = self.http.get("/api/sign-in")
        csrf = {"csrfmiddlewaretoken": csrf_of(page)}
        return self.http.post("/api/sign-in", {"username": self.username, "password": password, **csrf, **body})

    def get(self, path: str = "/api/me/", **extra: Any) -> Any:
        return self.http.get(path, **extra)

    def send(self, method: str, path: str, body: Any = None, **extra: Any) -> Any:
        """Do as the page's form does: with the token of the page."""
        headers = {"x-csrftoken": csrf_of(self.get("/api/")), "accept": ACCEPT}
        return self.http.generic(method, path, body or "", "application/json", headers=headers, **extra)


def csrf_of(page: Any) -> str:
    found = re.search(r'(?:data-csrf|name="csrfmiddlewaretoken" value)="(\w+)"', page.content.decode())
    assert found, page.content.decode()
    return found[1]
