"""Takes the pictures that the README shows; `make screenshots` puts them into docs/images."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.people import LINUX, PHONE, link_in_mail, register, sign_in, sign_in_to_api

DESK = {"width": 1120, "height": 680}


def wait_a_little(page: Page) -> None:
    """Make the page believe that some time has passed, so it shows times that people would see."""
    page.clock.set_system_time(datetime.now(UTC) + timedelta(minutes=2, seconds=5))
    page.reload()


def verify(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_role("button", name="Confirm my address").click()
    page.get_by_role("link", name="Go to your account").click()
    expect(page.get_by_text("verified", exact=True)).to_be_visible()


def test_pictures_show_the_pages_in_use(visit: Visit, mails: Path, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page = visit(LINUX, viewport=DESK, color_scheme="light").open()
    for mail in mails.iterdir():
        mail.unlink()
    register(page, "ada")
    verify(page, link_in_mail(mails, "verify-email"))
    sign_in(visit(PHONE).open(), "ada")
    wait_a_little(page)
    expect(page.locator("#devices > li:not(.skeleton)")).to_have_count(2)
    expect(page.locator("[data-last-used]").first).to_have_text("2 minutes ago")
    page.screenshot(path=folder / "account.png")

    browsing = visit(LINUX, viewport=DESK, color_scheme="dark").open()
    sign_in_to_api(browsing, "ada")
    browsing.goto("/api/me/")
    browsing.screenshot(path=folder / "api.png")
    for picture in ("account.png", "api.png"):
        assert (folder / picture).stat().st_size < 200_000
