"""Passkeys on the account page, with Chromium's own authenticator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from accounts.models import User
from tests.browser.conftest import Visit, Visitor
from tests.browser.people import fill_in, link_in_mail, register, sign_in, wait_for_account
from tests.clients import PASSWORD
from tests.server import address_of_database, free_port, serve

AUTHENTICATOR: dict[str, Any] = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
    "defaultBackupEligibility": True,
    "defaultBackupState": True,
}
OFFERS_NONE = (
    "if (globalThis.PublicKeyCredential) PublicKeyCredential.isConditionalMediationAvailable = async () => false"
)

WAITS = """
if (navigator.credentials)
  navigator.credentials.get = ({ signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
"""
"""Makes the browser wait for the user, as a browser with a window does. Headless Chromium gives up at once."""


@pytest.fixture(scope="module")
def named_server(django_db_setup: None, mails: Path) -> Iterator[str]:
    port = str(free_port())
    url = f"http://localhost:{port}"
    with serve(address_of_database(), PORT=port, PUBLIC_URL=url, EMAIL_URL=f"filemail:///{mails}", THREADS="8"):
        yield url


@pytest.fixture
def named(transactional_db: None, named_server: str) -> str:
    """Return the base URL of a server with a host name."""
    return named_server


def plug_in(page: Page) -> None:
    """Give the page's browser an authenticator."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})


def verified(visitor: Visitor, mails: Path) -> Page:
    """Register, and verify the address."""
    for mail in mails.iterdir():
        mail.unlink()
    page = visitor.open()
    plug_in(page)
    register(page)
    page.goto(link_in_mail(mails, "verify-email"))
    page.get_by_role("button", name="Confirm my address").click()
    page.get_by_role("link", name="Go to your account").click()
    expect(page.get_by_text("verified", exact=True)).to_be_visible()
    return page


def add(page: Page, name: str) -> None:
    page.get_by_text("Add a passkey").first.click()
    page.locator("#add-passkey").get_by_label("Name").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Passkey added.")
    expect(page.locator("#passkeys span[data-name]")).to_have_text([name])


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_passkey_is_added_signs_in_by_the_button_and_after_a_password(visit: Visit, named: str, mails: Path) -> None:
    visitor = visit(base_url=named)
    visitor.expect_complaint("401 (Unauthorized)")
    visitor.context.add_init_script(OFFERS_NONE)
    page = verified(visitor, mails)
    add(page, "Laptop")
    expect(page.locator("#passkeys")).to_contain_text("synced")
    assert len(page.locator("#codes").inner_text().split()) == 10
    expect(page.get_by_text("Add codes from an authenticator app")).to_be_visible()
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    wait_for_account(page)
    expect(page.locator("#passkeys")).to_contain_text("last used now")
    sign_out(page)
    fill_in(page, "ann", PASSWORD)
    page.get_by_role("button", name="Use a passkey").click()
    wait_for_account(page)


def test_passkey_offered_by_the_browser_signs_in_without_typing(visit: Visit, named: str, mails: Path) -> None:
    visitor = visit(base_url=named)
    page = verified(visitor, mails)
    add(page, "Laptop")
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.locator("#events [data-kind]")).to_contain_text(["signed in", "signed out"])


def test_page_left_open_still_has_a_valid_challenge(visit: Visit, named: str) -> None:
    visitor = visit(base_url=named)
    visitor.context.add_init_script(WAITS)
    page = visitor.open()
    page.clock.install()
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/passkey/options") else None)
    page.goto("/")
    for _ in range(200):
        if len(asked) == 3:
            break
        page.wait_for_timeout(100)
        page.clock.fast_forward("03:00")
    assert len(asked) == 3


def test_passkey_is_renamed_and_removed(visit: Visit, named: str, mails: Path) -> None:
    visitor = visit(base_url=named)
    visitor.expect_complaint("401 (Unauthorized)")
    visitor.context.add_init_script(OFFERS_NONE)
    page = verified(visitor, mails)
    add(page, "Laptop")
    code, *_ = page.locator("#codes").inner_text().split()
    page.get_by_role("button", name="Rename Laptop").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Old laptop")
    page.keyboard.press("Enter")
    expect(page.locator("#passkeys span[data-name]")).to_have_text(["Old laptop"])
    page.get_by_role("button", name="Remove Old laptop").click()
    page.get_by_role("button", name="Remove passkey").click()
    # No factor took part in this sign-in.
    form = page.locator("#reauthenticate")
    expect(form.get_by_label("Your password")).to_be_focused()
    expect(form.get_by_role("button", name="Use a passkey")).to_be_visible()
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Passkey removed.")
    expect(page.locator("#passkeys > li")).to_have_count(0)
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).not_to_be_empty()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_passkey_answers_where_a_code_is_asked_for(visit: Visit, named: str, mails: Path) -> None:
    visitor = visit(base_url=named)
    visitor.expect_complaint("401 (Unauthorized)")
    visitor.context.add_init_script(OFFERS_NONE)
    page = verified(visitor, mails)
    add(page, "Laptop")
    page.get_by_text("Get new recovery codes").click()
    renewal = page.locator("#renew-codes")
    expect(renewal.get_by_text("Leave this empty to use a passkey.")).to_be_visible()
    renewal.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Your old recovery codes no longer work.")
    page.get_by_text("Delete account").first.click()
    page.get_by_role("button", name="Delete account").click()
    page.get_by_role("dialog").get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Your account has been deleted.")


def test_page_at_an_ip_address_offers_no_passkeys_and_says_why(visitor: Visitor) -> None:
    lines: list[str] = []
    visitor.context.on("console", lambda message: lines.append(message.text))
    page = visitor.open()
    register(page)
    expect(page.locator("#passkeys-card")).to_be_hidden()
    sign_out(page)
    expect(page.locator("#use-passkey")).to_be_hidden()
    assert [line for line in lines if "passkeys" in line.lower()]


@pytest.fixture
def office(named: str) -> str:
    """Return the base URL of a server whose administrator is ann."""
    User.objects.create_superuser("ann", "ann@example.com", PASSWORD, email_verified=True)
    return named


def test_passkey_signs_in_to_the_admin_alone_and_after_the_password(visit: Visit, office: str) -> None:
    visitor = visit(base_url=office)
    visitor.context.add_init_script(OFFERS_NONE)
    page = visitor.open()
    plug_in(page)
    sign_in(page)
    add(page, "Laptop")
    page.goto("/admin/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.goto("/api/sign-in")
    fill_in(page, "ann", PASSWORD)
    expect(page.get_by_label("Password")).to_have_count(0)
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
