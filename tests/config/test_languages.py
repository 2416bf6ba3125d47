"""Every sentence comes in the requested language, or in English if that is not supported."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.test import Client
from django.utils import translation
from pytest_django import Settings

from accounts.mail import outbox
from accounts.models import User
from api.schema import _schema
from tests.clients import PASSWORD, Browser
from tests.messages import FAMILIAR
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db

GERMAN = {"accept-language": "de-AT, de;q=0.9, en;q=0.5"}
PAGE = {**GERMAN, "accept": "text/html"}


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", "ann@example.com", PASSWORD)


def text_of(response: Any) -> str:
    return str(response.content.decode())


# Answers


def test_error_is_in_german(ann: User) -> None:
    answer = Client(headers=GERMAN).post("/auth/refresh-token")
    sentence = "Das Cookie mit dem Aktualisierungstoken fehlt. Melden Sie sich an."
    assert answer.json() == {"detail": sentence, "code": "refresh_token_missing"}
    assert answer["Content-Language"] == "de"
    assert "Accept-Language" in answer["Vary"]


def test_field_errors_are_in_german(ann: User) -> None:
    body = {"username": "ANN", "password": "12345", "email": "no address"}
    answer = Client(headers=GERMAN).post("/auth/register", body, content_type="application/json")
    assert answer.json()["email"] == ["Geben Sie eine gültige E-Mail-Adresse ein."]
    answer = Client(headers=GERMAN).post(
        "/auth/register", {**body, "email": "ann@example.com"}, content_type="application/json"
    )
    assert answer.json()["username"] == ["Dieser Benutzername ist vergeben."]
    assert answer.json()["email"] == ["Diese Adresse ist vergeben."]
    assert "Dieses Passwort ist zu kurz. Es muss mindestens 8 Zeichen enthalten." in answer.json()["password"]


def sentences(body: Any) -> Iterator[str]:
    match body:
        case dict():
            yield from (sentence for key, value in body.items() if key != "code" for sentence in sentences(value))
        case list():
            yield from (sentence for value in body for sentence in sentences(value))
        case _:
            yield str(body)


NEW = {"username": "bob", "password": "a password of four words", "email": "bob@example.com"}
REFUSED: list[tuple[str, str, Any, dict[str, str]]] = [
    ("GET", "/api/me/", None, {}),
    ("GET", "/api/me/", None, {"authorization": "Bearer x"}),
    ("GET", "/api/nowhere", None, {}),
    ("GET", "/nowhere", None, {}),
    ("GET", "/auth/login", None, {}),
    ("GET", "/api/users/?cursor=x", None, {"as": "root"}),
    ("GET", "/api/users/?ordering=x", None, {"as": "root"}),
    ("GET", "/api/users/?search=%00", None, {"as": "root"}),
    ("GET", f"/api/users/?search={'x' * 400}", None, {"as": "root"}),
    ("GET", "/api/users/", None, {"as": "ann"}),
    ("GET", "/api/security-events/?user=1000000", None, {"as": "ann"}),
    ("GET", "/api/security-events/?user=x", None, {"as": "ann"}),
    ("GET", "/api/security-events/?user=0", None, {"as": "ann"}),
    ("GET", f"/api/security-events/?user={10**20}", None, {"as": "ann"}),
    ("GET", "/api/users/1000000/", None, {"as": "root"}),
    ("POST", "/auth/login", "{", {}),
    ("POST", "/auth/login", "[" * 100_000, {}),
    ("POST", "/auth/login", '"text"', {}),
    ("POST", "/auth/login", "", {"content-type": "text/plain"}),
    ("POST", "/auth/login", "x" * (1024 * 1024 + 1), {}),
    ("POST", "/auth/login", {}, {"origin": "https://evil.example"}),
    ("POST", "/auth/login", {}, {}),
    ("POST", "/auth/login", {"username": "ann", "password": "wrong"}, {}),
    ("POST", "/auth/login", {"username": None, "password": ["x"]}, {}),
    ("POST", "/auth/login", {"username": "", "password": "x" * 5000}, {}),
    ("POST", "/api/token/", {"username": "ann", "password": "wrong"}, {}),
    ("POST", "/api/token/refresh/", {"refresh": "x"}, {}),
    ("POST", "/api/token/verify/", {}, {}),
    ("POST", "/auth/login/second-factor", {"challenge": "x", "code": "x"}, {}),
    ("POST", "/auth/logout", None, {"as": "ann"}),
    ("POST", "/auth/introspect", None, {"as": "ann"}),
    ("POST", "/auth/introspect", None, {"authorization": "Basic YTpi"}),
    ("POST", "/auth/register", {}, {}),
    ("POST", "/auth/register", NEW | {"username": "a@b"}, {}),
    ("POST", "/auth/register", NEW | {"username": "x" * 151}, {}),
    ("POST", "/auth/register", NEW | {"username": "a\0"}, {}),
    ("POST", "/auth/register", NEW | {"username": "ann", "email": "ann@example.com"}, {}),
    ("POST", "/auth/register", NEW | {"password": "password"}, {}),
    ("POST", "/auth/register", NEW | {"password": "1029384756"}, {}),
    ("POST", "/auth/register", NEW | {"password": "x"}, {}),
    ("POST", "/auth/register", NEW | {"username": "robertson", "password": "robertson1"}, {}),
    ("POST", "/auth/register", NEW | {"email": "x"}, {}),
    ("POST", "/auth/password/change", {"currentPassword": "wrong", "newPassword": "x"}, {"as": "ann"}),
    ("POST", "/auth/password/change", {"currentPassword": PASSWORD, "newPassword": "x"}, {"as": "ann"}),
    ("POST", "/auth/password/reset/confirm", {"uid": "x", "token": "x", "newPassword": PASSWORD}, {}),
    ("POST", "/auth/email/verify", {"uid": "x", "token": "x"}, {}),
    ("POST", "/auth/second-factor/confirm", {"code": "x"}, {"as": "ann"}),
    ("POST", "/auth/second-factor/remove", {"code": "x", "currentPassword": PASSWORD}, {"as": "ann"}),
    ("PATCH", "/api/me/", {"email": "new@example.com"}, {"as": "ann"}),
]


@pytest.mark.parametrize(("method", "path", "body", "headers"), REFUSED)
def test_no_answer_mixes_languages(ann: User, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
    content_type = headers.get("content-type", "application/json")
    asked = {name: value for name, value in headers.items() if name not in ("as", "content-type")}
    if "as" in headers:
        User.objects.create_superuser("root", "root@example.com", PASSWORD)
        browser = Browser()
        browser.login(headers["as"])
        asked["authorization"] = f"Bearer {browser.access}"
    data = body if isinstance(body, str) else json.dumps(body)
    english, german = (
        Client().generic(method, path, data, content_type, headers={**asked, **language}) for language in ({}, GERMAN)
    )
    assert german.status_code == english.status_code >= 400
    assert german.json().get("code") == english.json().get("code")
    assert german.json().keys() == english.json().keys()
    translated, original = list(sentences(german.json())), list(sentences(english.json()))
    assert len(translated) == len(original) > 0
    assert not {*translated} & {*original}
    assert not [sentence for sentence in translated if FAMILIAR.search(sentence)]


@pytest.mark.parametrize(
    "header",
    ["", "*", "tlh", "xx-YY, tlh;q=0.9", "en", "en-GB", "en;q=1, de;q=0", "de;q=x", "d", "-", ",,,;q=;q"],
)
def test_unknown_languages_get_english(header: str) -> None:
    answer = Client(headers={"accept-language": header}).get("/api/me/")
    assert answer.json()["detail"] == "Authentication credentials were not provided."
    assert answer["Content-Language"] == "en"


@pytest.mark.parametrize(
    "header",
    [
        "de\0",
        "\0",
        "a" * 100_000,
        "de," * 50_000,
        "-" * 5000,
        "de-" * 200,
        "../../etc",
        "ä\x80ÿ",
        "de\n",
        "%s{0}",
        "tr_TR",
    ],
)
def test_malformed_language_is_ignored(header: str) -> None:
    for headers in ({"accept-language": header}, {"cookie": f"django_language={header}"}):
        answer = Client(headers=headers).get("/api/me/")
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert answer["Content-Language"] in ("en", "de")


def test_language_does_not_outlive_its_request(settings: Settings) -> None:
    Client(headers=GERMAN).get("/api/me/")
    assert translation.get_language() == "en"
    settings.SECURE_SSL_REDIRECT = True  # refused before the language is chosen
    answer = Client(headers=GERMAN).get("/api/me/", headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "The request is malformed.")


# Texts for programs


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/health/live"])
def test_machine_readable_values_are_the_same_in_every_language(path: str) -> None:
    english, german = Client().get(path), Client(headers=GERMAN).get(path)
    assert german.content == english.content
    assert german.headers == english.headers
    assert "Accept-Language" not in german.get("Vary", "")
    assert "Content-Language" not in german


def test_static_files_are_the_same_in_every_language() -> None:
    answer = Client(headers=GERMAN).get("/static/account.js")
    answer.close()
    assert answer.status_code == 200
    assert "Accept-Language" not in answer.get("Vary", "")
    assert "Content-Language" not in answer


def test_schema_is_in_english_for_all_languages() -> None:
    _schema.cache_clear()
    german = Client(headers=GERMAN).get("/api/schema/").json()
    _schema.cache_clear()
    assert german == Client().get("/api/schema/").json()
    assert "Benutzer" not in json.dumps(german, ensure_ascii=False)


# Pages


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/", "Benutzername oder E-Mail-Adresse"),
        ("/reset-password", "Neues Passwort wählen"),
        ("/verify-email", "Meine Adresse bestätigen"),
        ("/client", "Ausprobieren"),
        ("/api/", "Die Endpunkte dieser API."),
        ("/api/sign-in", "Code des zweiten Faktors, falls Sie einen verwenden"),
        ("/api/docs/", "Die API"),
        ("/admin/login/", "Code des zweiten Faktors, falls Sie einen verwenden"),
        ("/nowhere", "Seite nicht gefunden"),
    ],
)
def test_page_is_in_german(path: str, sentence: str) -> None:
    page = Client(headers=PAGE).get(path)
    assert '<html lang="de"' in text_of(page)
    assert sentence in text_of(page)
    assert page["Content-Language"] == "de"
    assert "Accept-Language" in page["Vary"]


def test_account_page_names_events_and_their_reasons_in_german() -> None:
    page = text_of(Client(headers=PAGE).get("/"))
    found = re.findall(r'<script id="(?:kinds|reasons)" type="application/json">(.*?)</script>', page)
    kinds, reasons = (dict(json.loads(labels)) for labels in found)
    assert kinds["token_reused"] == "Aktualisierungstoken zweimal verwendet"
    assert (reasons["revoked"], reasons["staff"]) == ("von Ihnen widerrufen", "von einem Mitarbeiter widerrufen")
    assert reasons.keys() == set(Reason.values)


def test_session_description_is_in_german(ann: User) -> None:
    browser = Browser()
    browser.login()
    [session] = browser.get("/api/sessions/", headers=GERMAN).json()["results"]
    [event] = browser.get("/api/security-events/", headers=GERMAN).json()["results"]
    assert (session["device"], event["device"]) == ("Firefox unter Linux", "Firefox unter Linux")


def test_api_page_headings_are_in_german() -> None:
    User.objects.create_superuser("root", "root@example.com", PASSWORD)
    visitor = Client(headers=PAGE)
    visitor.post("/api/sign-in/", {"username": "root", "password": PASSWORD})
    pages = {path: text_of(visitor.get(path)) for path in ("/api/me/", "/api/users/", "/api/sessions/")}
    headings = {path: re.findall(r"<h1[^>]*>(.*?)</h1>", page) for path, page in pages.items()}
    assert headings == {"/api/me/": ["Konto"], "/api/users/": ["Benutzer"], "/api/sessions/": ["Sitzungen"]}
    assert "Alle Sitzungen des Aufrufers" not in pages["/api/sessions/"]
    assert "Ihre aktiven Sitzungen" in pages["/api/sessions/"]
    assert "Andere widerrufen" in pages["/api/sessions/"]
    assert "Medientyp:" in pages["/api/me/"]
    assert "Inhalt:" in pages["/api/me/"]


def test_admin_is_in_german(ann: User) -> None:
    Browser().login()
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    admin = Client(headers=PAGE)
    admin.force_login(root)
    page = text_of(admin.get("/admin/latchkey/session/"))
    assert "Ausgewählte Sitzungen widerrufen" in page
    assert "Firefox unter Linux" in page
    session = Session.objects.get(user=ann)
    chosen = {"action": "revoke_selected", "_selected_action": [str(session.pk)]}
    assert "1 Sitzung wurde widerrufen." in text_of(admin.post("/admin/latchkey/session/", chosen, follow=True))
    assert LogEntry.objects.get().get_change_message() == "Widerrufen."
    assert "beendet: von einem Mitarbeiter widerrufen" in text_of(
        admin.get(f"/admin/latchkey/session/{session.pk}/change/")
    )


# Mails


def test_mail_is_in_the_language_of_the_request_that_caused_it(ann: User) -> None:
    for headers in (GERMAN, {}):
        body = {"email": "ann@example.com"}
        Client(headers=headers).post("/auth/password/reset", body, content_type="application/json")
    outbox.deliver()
    german, english = mail.outbox
    assert (german.subject, english.subject) == ("Passwort zurücksetzen", "Reset your password")
    assert "Öffnen Sie diesen Link" in str(german.body)
    assert "Open this link" in str(english.body)


def test_notice_is_in_the_language_of_the_request_that_caused_it(ann: User) -> None:
    browser = Browser()
    browser.login()
    User.objects.update(email_verified=True)
    change = {"email": "new@example.com", "currentPassword": PASSWORD}
    browser.http.patch(
        "/api/me/", change, format="json", headers={**GERMAN, "authorization": f"Bearer {browser.access}"}
    )
    outbox.deliver()
    subjects = {message.subject for message in mail.outbox}
    assert subjects == {"Ihre E-Mail-Adresse wurde geändert", "Bestätigen Sie Ihre E-Mail-Adresse"}
