"""The account page in German: the texts of its template and its script, and its times."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, Visitor
from tests.clients import PASSWORD


def test_account_page_is_in_german(visit: Visit) -> None:
    page = visit(locale="de-DE").open("/#register")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    register(page)
    expect(page).to_have_title("Ihr Konto · Latchkey")
    expect(page.locator("#devices > li")).to_have_text(
        [re.compile(r"Firefox unter Linux\s+hier\s+zuletzt verwendet jetzt · 127\.0\.0\.1\s+angemeldet jetzt")]
    )
    expect(page.locator("#events > li [data-kind]")).to_have_text(["angemeldet", "registriert"])
    expect(page.locator("#events > li [data-agent]").first).to_have_text("Firefox unter Linux")
    page.get_by_role("button", name="Abmelden").click()
    expect(page.get_by_role("status")).to_have_text("Sie sind abgemeldet.")


def test_form_errors_are_in_german(visit: Visit) -> None:
    visitor: Visitor = visit(locale="de-DE")
    visitor.expect_complaint("400 (Bad Request)")
    page = visitor.open("/#register")
    register(page, "ann@home")
    expect(page.locator("#register-username-error")).to_have_text(re.compile("Geben Sie einen gültigen Benutzernamen"))


def test_client_example_is_in_german(visit: Visit) -> None:
    page = visit(locale="de-DE").open("/client")
    expect(page.locator("#state")).to_have_text("abgemeldet")


def register(page: Page, username: str = "ann") -> None:
    page.get_by_label("Benutzername").fill(username)
    page.get_by_label("Passwort").fill(PASSWORD)
    page.get_by_role("button", name="Konto anlegen").click()
