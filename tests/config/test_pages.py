"""The pages, without a browser. tests/browser opens them in one."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from pytest_django import Settings

from tokens.kinds import TABLE

PAGES = [
    *("/", "/reset-password", "/verify-email", "/client"),
    *("/api/", "/api/me/", "/api/sign-in", "/api/docs/", "/api/token/"),
    *("/admin/", "/admin/login/", "/nowhere"),
]
TEMPLATES = Path(django_settings.BASE_DIR, "templates")


@pytest.fixture
def visit(db: None) -> Any:
    return Client(headers={"accept": "text/html"}).get


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_content_security_policy(visit: Any, path: str) -> None:
    response = visit(path, secure=True)
    policy = dict(directive.split(" ", 1) for directive in response["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "connect-src": "'self'",
        "font-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "img-src": "'self' data:",
        "script-src": "'self'",
        "style-src": "'self'",
    }
    assert response["Strict-Transport-Security"] == "max-age=31536000"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_loads_anything_from_another_host(visit: Any, path: str) -> None:
    page = visit(path, follow=True).content.decode()
    sources = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("/static/", "data:")) for source in sources), sources


SCRIPTS = [
    *Path(django_settings.BASE_DIR, "static").glob("*.js"),
    *Path(django_settings.BASE_DIR, "api", "static").rglob("*.js"),
    *Path(django_settings.BASE_DIR, "tokens", "static").rglob("*.js"),
    *Path(django_settings.BASE_DIR, "client", "src").rglob("*.js"),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_write_text_and_store_nothing_in_the_page(script: Path) -> None:
    """No text becomes markup or code, and no element's name can shadow a variable."""
    markup = r"\.(?:inner|outer)HTML|insertAdjacentHTML|document\.write|createContextualFragment"
    code = r"\beval\(|new Function|set(?:Timeout|Interval)\(\s*[\"'`]"
    kept = r"\b(?:window|globalThis|self|document)\.(?!title\b)\w+ = |document\.(?:forms|all)\b"
    assert not re.findall(f"{markup}|{code}|{kept}", script.read_text())


def test_only_one_script_inserts_markup_and_only_from_the_server() -> None:
    assert [script.name for script in SCRIPTS if "DOMParser" in script.read_text()] == ["browsing.js"]


@pytest.mark.parametrize("path", ["/", "/client", "/api/sign-in", "/admin/login/"])
def test_password_fields_are_known_to_password_managers(visit: Any, path: str) -> None:
    page = visit(path).content.decode()
    fields = [field for field in re.findall(r"<input[^>]*>", page) if re.search(r'name="\w*[pP]assword"', field)]
    assert fields
    for field in fields:
        assert 'type="password"' in field
        assert re.search(r'autocomplete="(?:current|new)-password"', field)


@pytest.mark.parametrize("page", ["/", "/reset-password", "/verify-email", "/client"])
def test_page_answers_with_and_without_a_slash(visit: Any, page: str) -> None:
    assert visit(page).status_code == visit(f"{page.rstrip('/')}/").status_code == 200


def test_registration_is_offered_if_open(visit: Any, settings: Settings) -> None:
    assert "Create an account" in visit("/").content.decode()
    settings.REGISTRATION_OPEN = False
    assert "Create an account" not in visit("/").content.decode()


def test_account_page_names_every_kind_of_event(visit: Any) -> None:
    page = visit("/").content.decode()
    assert '["token_reused", "refresh token used twice"]' in page


@pytest.mark.parametrize(
    ("mode", "origins", "proves"),
    [
        ("optional", [], True),
        ("optional", ["https://app.example.com"], False),
        ("required", ["https://app.example.com"], True),
        ("off", [], False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/client"])
def test_all_pages_of_one_origin_prove_a_key_or_none(
    visit: Any, settings: Settings, path: str, mode: str, origins: list[str], proves: bool
) -> None:
    settings.TOKENS_DPOP, settings.TOKENS_TRUSTED_ORIGINS = mode, origins
    assert ('<meta name="dpop"' in visit(path).content.decode()) == proves


def test_favicon_is_found(visit: Any) -> None:
    assert visit("/favicon.ico")["Location"] == "/static/latchkey.svg"


def test_unknown_page_is_a_page(visit: Any) -> None:
    response = visit("/nowhere")
    assert response.status_code == 404
    assert "Page not found" in response.content.decode()


def test_server_error_is_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("config.serving.pages.AccountPage.get_context_data", fail)
    response = Client(headers={"accept": "text/html"}, raise_request_exception=False).get("/")
    assert response.status_code == 500
    assert "Something went wrong" in response.content.decode()


def test_no_page_has_inline_script_or_style() -> None:
    for template in set(TEMPLATES.rglob("*.html")) - set(TEMPLATES.rglob("mail/*")):
        found = re.search(
            r"<style|\sstyle=|\son\w+=|javascript:|<script(?! type=\"module\" src=)", template.read_text()
        )
        assert not found, template


def test_events_highlighted_on_the_account_page_exist() -> None:
    script = (TEMPLATES.parent / "static/account.js").read_text()
    alarming = set(re.findall(r'"(\w+)"', script.split("alarming = new Set([")[1].split("]")[0]))
    assert alarming <= set(TABLE)
    assert {"passkey_cloned", "passkey_failed", "token_reused"} <= alarming
