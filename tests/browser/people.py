"""The users of the browsers in the tests, and what they do in several tests."""

from pathlib import Path
from re import search
from time import monotonic, sleep

from playwright.sync_api import Page, expect

from tests.accounts.devices import Device
from tests.clients import PASSWORD

LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def register(page: Page, username: str = "ann", *, address: bool = True) -> None:
    """Register. Nobody verifies the address, so the account can't have a second factor."""
    page.goto("/#register")
    page.get_by_label("Username").fill(username)
    if address:
        page.get_by_label("Email address").fill(f"{username}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    wait_for_account(page)


def sign_in(page: Page, username: str = "ann", password: str = PASSWORD) -> None:
    page.goto("/")
    fill_in(page, username, password)
    wait_for_account(page)


def wait_for_account(page: Page) -> None:
    """Wait until the account page has all that it asks for. A sign-out meanwhile would have some of that refused."""
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    expect(page.locator("#who")).not_to_be_empty()


def fill_in(page: Page, username: str, password: str) -> None:
    page.get_by_label("Username or email address").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_in_to_api(page: Page, username: str = "ann", password: str = PASSWORD) -> None:
    page.goto("/api/")
    page.get_by_role("link", name="Sign in").click()
    fill_in(page, username, password)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def switch_on(page: Page) -> tuple[Device, list[str]]:
    """Turn on two-factor authentication; return the device and the recovery codes."""
    page.get_by_text("Turn on two-factor authentication").click()
    page.locator("#enrol").get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    return confirm(page)


def confirm(page: Page) -> tuple[Device, list[str]]:
    """Set up the authenticator app that the page shows; return it, and the recovery codes."""
    expect(page.get_by_label("Code from the app")).to_be_focused()
    device = Device(page.locator("#secret").inner_text().replace(" ", ""))
    page.keyboard.type(device.code())
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Two-factor authentication is on.")
    codes = page.locator("#codes").inner_text().split()
    assert len(codes) == 10
    return device, codes


def link_in_mail(mails: Path, page_name: str) -> str:
    """Return the path and the fragment of the newest mailed link to that page; wait for the mail if necessary.

    The host is left out: another server of this database may have sent the mail, with its own address.
    """
    deadline = monotonic() + 60
    while monotonic() < deadline:
        for mail in sorted(mails.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            text = mail.read_text().replace("=\n", "").replace("=3D", "=")
            if found := search(rf"http://[^\s/]+(/{page_name}#[\w=&;-]+)", text):
                return found[1].replace("&amp;", "&")
        sleep(0.1)
    raise AssertionError(f"no mail with a link to {page_name} has come")
