"""The visitor who browses the API and the admin in the tests, in a browser that has no access token."""

import re
from typing import Any

from django.http.cookie import SimpleCookie
from django.test import Client

from config.serving.page_sessions import SessionStore
from tests.clients import PASSWORD
from tokens.models import Session

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


API, ADMIN = "/api/sign-in", "/admin/login/"
"""The sign-in pages of both."""


class Visitor:
    def __init__(self, username: str = "ann", door: str = API) -> None:
        self.username, self.door = username, door
        self.http = Client(enforce_csrf_checks=True, headers={"accept": ACCEPT})

    @property
    def cookie(self) -> str:
        cookies: SimpleCookie = self.http.cookies
        return cookies["sessionid"].value if "sessionid" in cookies else ""

    @property
    def session(self) -> Session:
        found: Session = Session.objects.get(pk=SessionStore(self.cookie)["sid"])
        return found

    def sign_in(self, password: str = PASSWORD, **body: str) -> Any:
        csrf = csrf_of(self.http.get(self.door, follow=True))
        form = {"username": self.username, "password": password, "csrfmiddlewaretoken": csrf}
        return self.http.post(self.door, {**form, **body})

    def get(self, path: str = "/api/me/", **extra: Any) -> Any:
        return self.http.get(path, **extra)

    def send(self, method: str, path: str, body: Any = None, **extra: Any) -> Any:
        """Send the form, with the page's CSRF token."""
        headers = {"x-csrftoken": csrf_of(self.get("/api/")), "accept": ACCEPT}
        return self.http.generic(method, path, body or "", "application/json", headers=headers, **extra)


def csrf_of(page: Any) -> str:
    found = re.search(r'(?:data-csrf|name="csrfmiddlewaretoken" value)="(\w+)"', page.content.decode())
    assert found, page.content.decode()
    return found[1]
