"""Who calls the API in the tests."""

import json
from typing import Any

from accounts.models import User
from tests.clients import PASSWORD, Browser


class Person(Browser):
    """A signed-in user; every call carries the access token."""

    def __init__(self, username: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.username = username

    @property
    def user(self) -> User:
        return User.objects.get(username=self.username)

    @property
    def path(self) -> str:
        """The account's path for staff."""
        return f"/api/users/{self.user.pk}/"

    def call(self, method: str, path: str, body: Any = None, **extra: Any) -> Any:
        self.http.credentials(HTTP_AUTHORIZATION=f"Bearer {self.access}")
        if body is not None:
            extra = {"data": json.dumps(body), "content_type": "application/json", **extra}
        return getattr(self.http, method)(path, **extra)


def register(username: str, **body: Any) -> Person:
    person = Person(username)
    answer = person.post(
        "/auth/register",
        {"username": username, "email": f"{username}@example.com", "password": PASSWORD, **body},
    )
    assert answer.status_code == 201, answer.json()
    person.access = answer.json()["accessToken"]
    return person


def sign_in(username: str, **kwargs: Any) -> Person:
    """Sign in once more, in another browser."""
    person = Person(username, **kwargs)
    assert person.login(username).status_code == 200
    return person
