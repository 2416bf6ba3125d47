"""The app in German, with its own catalog."""

from typing import Any

from django.utils.translation import override

from tests.clients import App, Browser
from tokens import kinds
from tokens.models import Reason

GERMAN = {"accept-language": "de"}


def detail_of(response: Any) -> str:
    return str(response.json()["detail"])


def test_refusals_are_in_german(app: App) -> None:
    with override("de"):  # the project decides which language applies
        assert detail_of(Browser().http.post("/auth/refresh-token", headers=GERMAN)).startswith("Das Cookie")
        wrong = {"username": "ann", "password": "wrong"}
        refused = app.http.post("/api/token/", wrong, format="json", headers=GERMAN)
        assert (refused.status_code, detail_of(refused)) == (401, "Zu diesen Zugangsdaten gibt es kein aktives Konto")
    with override("de"):
        malformed = app.http.generic("POST", "/api/token/", "{", "application/json", headers=GERMAN)
        assert (malformed.status_code, detail_of(malformed)) == (400, "Fehlerhafte Anfrage.")


def test_names_are_in_german() -> None:
    with override("de"):
        assert str(kinds.TOKEN_REUSED.label) == "Aktualisierungstoken zweimal verwendet"
        assert str(Reason.STAFF.label) == "von einem Mitarbeiter widerrufen"


def test_sentences_are_english_by_default(app: App) -> None:
    malformed = app.http.generic("POST", "/api/token/", "{", "application/json")
    assert (malformed.status_code, malformed.json()) == (400, {"detail": "Malformed request.", "code": "parse_error"})
