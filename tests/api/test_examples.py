"""The bodies that the OpenAPI schema shows, and its page fills in, work when they are sent as they stand."""

from typing import Any
from urllib.parse import urlencode

import pytest
from pytest_django import Settings

from accounts.models import User
from api.schema import schema
from tests.accounts.authenticator import Authenticator
from tests.accounts.devices import Device
from tests.api.people import Person
from tests.api.test_schema import CONTRACT

pytestmark = pytest.mark.django_db

CODE = (400, {"code": ["This code is wrong or was already used."]})
LINK = (400, {"token": ["The link is not valid or was used before. Ask for a new one."]})
TOKEN = (401, "token_not_valid")
CHALLENGE = (401, "invalid_challenge")
OFF = (404, "not_found")

REFUSED: dict[str, tuple[int, Any]] = {
    "post /auth/login/second-factor": CHALLENGE,
    "post /auth/login/passkey": CHALLENGE,
    "post /auth/passkeys": CHALLENGE,
    "post /auth/session": OFF,
    "post /auth/email/verify": LINK,
    "post /auth/email/verify/check": LINK,
    "post /auth/password/reset/check": LINK,
    "post /auth/password/reset/confirm": LINK,
    "post /auth/second-factor/confirm": CODE,
    "post /auth/second-factor/recovery-codes": CODE,
    "post /auth/second-factor/remove": CODE,
    "post /api/token/second-factor/": CHALLENGE,
    "post /api/token/passkey/": CHALLENGE,
    "post /api/token/session/": OFF,
    "post /api/token/refresh/": TOKEN,
    "post /api/token/verify/": TOKEN,
    "post /api/token/blacklist/": TOKEN,
}
"""The calls that need what only the server, a mail, an app or a passkey can give, and how they refuse the example."""

WITH_PASSKEY = (
    "patch /auth/passkeys/{id}",
    "post /auth/reauthenticate/options",
    "post /auth/second-factor/recovery-codes",
    "post /auth/second-factor/remove",
)


def example(name: str) -> dict[str, Any]:
    """Return the call, with the body that the page fills in: that of the first format."""
    method, path = name.split()
    request = schema()["paths"][path][method].get("requestBody")
    if request is None:
        return {"path": path}
    media_type, content = next(iter(request["content"].items()))
    (shown,) = content["examples"].values()
    if media_type == "application/json":
        return {"path": path, "body": shown["value"]}
    return {"path": path, "data": urlencode(shown["value"]), "content_type": media_type}


@pytest.fixture
def ada(db: None, settings: Settings) -> Person:
    """The person of the examples, who has verified her address."""
    settings.PASSKEY_RP_ID, settings.PASSKEY_ORIGINS = "localhost", ["http://localhost:8000"]
    ada = Person("ada")
    ada.access = ada.call("post", **example("post /auth/register")).json()["accessToken"]
    User.objects.update(email_verified=True)
    return ada


def set_up_app(person: Person) -> None:
    """Give the person an app that does not happen to show the code of the example."""
    shown = example("post /auth/second-factor/confirm")["body"]["code"]
    given = iter(lambda: person.call("post", **example("post /auth/second-factor")).json()["secret"], None)
    next(secret for secret in given if shown not in map(Device(secret).code, range(-5, 6)))


def add_passkey(person: Person) -> str:
    options = person.call("post", "/auth/passkeys/options").json()
    body = {"challenge": options["challenge"], "credential": Authenticator().create(options["publicKey"])}
    return str(person.call("post", "/auth/passkeys", body).json()["id"])


def outcome(response: Any) -> tuple[int, Any]:
    """Return the status and, of a refusal, the code or the messages by field."""
    if response.status_code < 400:
        return response.status_code, None
    body = response.json()
    return response.status_code, body["code"] if "detail" in body else body


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.startswith(("post", "patch"))])
def test_example_works_when_it_is_sent(name: str, ada: Person, staff: Person) -> None:
    method, path = name.split()
    pk: Any = ada.user.pk
    if name == "post /auth/register":
        ada.user.delete()
    elif name == "post /auth/second-factor/confirm":
        set_up_app(ada)
    elif name == "patch /api/sessions/{id}/":
        pk = ada.call("get", "/api/sessions/").json()["results"][0]["id"]
    elif name in WITH_PASSKEY:
        pk = add_passkey(ada)
    caller = staff if path.startswith(("/api/users/", "/auth/introspect")) else ada
    call = example(name)

    response = caller.call(method, **{**call, "path": path.format(id=pk)})

    assert outcome(response) == REFUSED.get(name, (min(CONTRACT[name]), None))
