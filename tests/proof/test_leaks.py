"""No secret is left in the database, in the output, in the admin or in the metrics."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from itertools import chain
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request as HTTPRequest
from urllib.request import urlopen

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from tests.forgery import forge, hs, our_access_key, our_refresh_key
from tests.proof.wire import Answer, Request, by_body, by_cookie, log_out, me, send
from tests.server import serve
from tokens.domain import sessions
from tokens.exceptions import TokenRefused
from tokens.jose import keys
from tokens.models import Session
from tokens.tokens import AccessToken, RefreshToken

PASSWORD = "a-password-that-nobody-else-has"
CHANGED = "another-password-of-hers"
WRONG = "what-she-typed-by-mistake"
SCRAPER = "what-only-the-scraper-knows"

SPKI = PublicFormat.SubjectPublicKeyInfo
SIGNERS = {RefreshToken: our_refresh_key, AccessToken: our_access_key}


def post(url: str, path: str, body: Any, access: str = "") -> Answer:
    return send(url, Request("POST", path, body=body, access=access))


def mailed(folder: Path, page: str) -> dict[str, str]:
    """Return the parameters of the link to that page, once its mail has arrived."""
    deadline = monotonic() + 60
    while monotonic() < deadline:
        for file in folder.iterdir():
            mail = message_from_bytes(file.read_bytes(), policy=default)
            text = "".join(part.get_content() for part in mail.walk() if part.get_content_type() == "text/plain")
            if link := re.search(rf"/{page}#(\S+)", text):
                return {name: values[0] for name, values in parse_qs(link[1]).items()}
        sleep(0.1)
    raise AssertionError(f"no mail with a link to {page}")


def live(url: str, mails: Path) -> Iterator[str]:
    """Live the whole life of an account, and yield each secret that appears."""
    yield from (PASSWORD, CHANGED, WRONG)
    answer = post(url, "/auth/register", {"username": "ann", "password": PASSWORD, "email": "ann@example.com"})
    assert answer.status == 201
    yield from (answer.refresh, answer.access)
    link = mailed(mails, "verify-email")
    assert post(url, "/auth/email/verify", link).status == 204
    yield link["token"]
    assert post(url, "/auth/login", {"username": "ann", "password": WRONG}).status == 401
    assert post(url, "/auth/login", {"username": WRONG, "password": PASSWORD}).status == 401
    for transport in (by_cookie, by_body):
        answer = send(url, transport(answer.refresh))
        assert answer.status == 200
        yield from (answer.refresh, answer.access)
    assert send(url, me(answer.access)).status == 200
    assert post(url, "/api/token/verify/", {"token": answer.access}).status == 200
    assert post(url, "/auth/password/reset", {"email": "ann@example.com"}).status == 202
    link = mailed(mails, "reset-password")
    assert post(url, "/auth/password/reset/confirm", {**link, "newPassword": CHANGED}).status == 204
    yield link["token"]
    assert send(url, me(answer.access)).status == 401
    answer = post(url, "/auth/login", {"username": "ann", "password": CHANGED})
    yield from (answer.refresh, answer.access)
    body = {"currentPassword": CHANGED, "newPassword": PASSWORD, "refresh": answer.refresh}
    answer = post(url, "/auth/password/change", body, answer.access)
    assert answer.status == 200
    yield from (answer.refresh, answer.access)
    assert send(url, log_out(answer.access, answer.refresh)).status == 204
    assert send(url, by_cookie(answer.refresh)).status == 401
    # A secret in a place where it does not belong.
    send(url, Request("GET", f"/api/me/?token={answer.access}"))
    send(url, Request("GET", "/api/me/", access=answer.refresh))


def metrics(url: str) -> str:
    request = HTTPRequest(f"{url}/metrics", headers={"Authorization": f"Bearer {SCRAPER}"})
    with urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def dump() -> str:
    """Return every value of every table, bytes in each encoding that the search looks for."""
    values = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                for value in row:
                    binary = bytes(value) if isinstance(value, (bytes, memoryview)) else None
                    values.append(str(value) if binary is None else f"{binary!r} {binary.hex()} {b64encode(binary)!r}")
    return "\n".join(values)


def pages(admin: Client) -> str:
    """Return the admin's pages about sessions, events, users and mails."""
    texts = []
    start = admin.get("/admin/").content.decode()
    for path in sorted(set(re.findall(r'href="(/admin/\w+/\w+/)"', start))):
        listed = admin.get(path, follow=True).content.decode()
        texts.append(listed)
        rows = sorted(set(re.findall(rf'href="({path}[^"]+/change/)[?"]', listed)))
        texts.extend(admin.get(row).content.decode() for row in rows)
    assert len(texts) > 3
    return "\n".join(texts)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="what is kept does not depend on where")
@pytest.mark.django_db(transaction=True)
def test_no_secret_appears_in_the_database_the_log_or_the_admin(database_url: str, tmp_path: Path) -> None:
    mails, printed = tmp_path / "mails", tmp_path / "printed"
    mails.mkdir()
    # The issuer is part of no secret, so the address of this server can stand in the tables.
    environment = {"EMAIL_URL": f"filemail:///{mails}", "THROTTLING": "off", "METRICS_TOKEN": SCRAPER}
    with serve(database_url, output=printed, **environment) as url:
        secrets = [SCRAPER, *live(url, mails)]
        scraped = metrics(url)
    manager: Any = get_user_model()._default_manager
    root = manager.create_superuser("root", "root@example.com", "the root password 1")
    admin = Client()
    admin.force_login(root)
    places = {
        "the database": dump(),
        "the log": printed.read_text(),
        "the admin": pages(admin),
        "the metrics": scraped,
    }
    assert "ann@example.com" in places["the database"]
    assert "POST /auth/login" in places["the log"]
    assert "ann" in places["the admin"]
    assert 'kind="login_failed"} 2.0' in places["the metrics"]
    assert "ann" not in places["the metrics"]
    # No signature of a token either: the rest can be put together again.
    signatures = [secret.rsplit(".", 1)[1] for secret in secrets if secret.count(".") == 2]
    assert len(signatures) >= 8
    for place, text in places.items():
        assert [secret for secret in (*secrets, *signatures) if secret in text] == [], place
    for session in Session.objects.all():
        secret = bytes(session.secret)
        for form in (secret.hex(), b64encode(secret).decode(), repr(secret)):
            assert form not in places["the log"] + places["the admin"] + places["the metrics"]


def known_to_a_thief() -> set[bytes]:
    """Return everything that a thief with a copy of the database and the public keys could use as a key."""
    found = {b""}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for value in chain.from_iterable(cursor.fetchall()):
                binary = bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode()
                found |= {binary, binary.hex().encode()}
    (key,) = keys.access_keys()
    forms = ((Encoding.PEM, SPKI), (Encoding.DER, SPKI), (Encoding.Raw, PublicFormat.Raw))
    written = {key.public.public_bytes(*form) for form in forms}
    return found | written | {json.dumps(key.jwk).encode(), key.jwk["x"].encode(), key.kid.encode()}


def unsigned(message: bytes) -> bytes:
    return b""


@pytest.mark.django_db
def test_copy_of_the_database_cannot_make_a_token(django_user_model: Any) -> None:
    session = sessions.start(django_user_model._default_manager.create_user("ann", password=PASSWORD))
    copied = known_to_a_thief()
    assert {bytes(session.secret), session.auth_hash.encode(), session.user.password.encode()} <= copied
    for kind in (RefreshToken, AccessToken):
        genuine = kind.of(session)
        header, claims = jwt.get_unverified_header(str(genuine)), dict(genuine.payload)
        assert kind(forge(header, claims, SIGNERS[kind])).session == session
        signed = [
            ({**header, "alg": f"HS{bits}"}, hs(secret, f"sha{bits}")) for secret in copied for bits in (256, 384, 512)
        ]
        forged = [*signed, *(({**header, "alg": alg}, unsigned) for alg in ("none", "None", header["alg"]))]
        for said, sign in forged:
            with pytest.raises(TokenRefused):
                kind(forge(said, claims, sign))
