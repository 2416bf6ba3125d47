"""The second factor, from its enrolment to the day when the device is lost."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.accounts.devices import Device
from tests.browser.conftest import Visit, Visitor
from tests.browser.people import fill_in, register, switch_on, wait_for_account
from tests.clients import PASSWORD


def enter(page: Page, code: str) -> None:
    page.get_by_role("textbox", name="Code").fill(code)
    page.get_by_role("button", name="Continue").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.fixture
def expecting(visitor: Visitor) -> Visitor:
    visitor.expect_complaint("401 (Unauthorized)", "400 (Bad Request)")
    return visitor


def test_code_is_required_once_enabled(expecting: Visitor, page: Page) -> None:
    register(page, address=False)
    device, codes = switch_on(page)
    expect(page.locator("#factor-state")).to_have_text(re.compile(r"On since .*\. Recovery codes left: 10\."))
    sign_out(page)
    fill_in(page, "ann", PASSWORD)
    expect(page.get_by_role("heading", name="Enter your code")).to_be_focused()
    enter(page, device.wrong())
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_role("link", name="Start again").click()
    fill_in(page, "ann", PASSWORD)
    enter(page, f" {codes[0]} ")
    expect(page.locator("#factor-state")).to_have_text(re.compile("Recovery codes left: 9"))
    expect(page.locator("#events li:has(.warning) [data-kind]")).to_have_text(
        ["recovery code used", "wrong two-factor code"]
    )
    expect(page.locator("#codes")).to_be_hidden()


def test_wrong_code_enables_nothing_on_the_page(expecting: Visitor, page: Page) -> None:
    register(page, address=False)
    page.get_by_text("Turn on two-factor authentication").click()
    password = page.locator("#enrol").get_by_label("Your password")
    password.fill("wrong")
    page.keyboard.press("Enter")
    expect(password).to_have_accessible_description("That password is wrong.")
    password.fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Open your authenticator app")).to_have_attribute(
        "href", re.compile("^otpauth:")
    )
    picture = page.get_by_role("img", name="QR code with the key below")
    expect(picture).to_be_visible()
    assert picture.evaluate("picture => picture.naturalWidth") > 100
    device = Device(page.locator("#secret").inner_text().replace(" ", ""))
    code = page.get_by_label("Code from the app")
    code.fill(device.wrong())
    page.keyboard.press("Enter")
    expect(code).to_have_attribute("aria-invalid", "true")
    page.reload()
    expect(page.get_by_text("Turn on two-factor authentication")).to_be_visible()


def test_recovery_codes_are_copied_and_downloaded(visit: Visit) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"]).open()
    register(page, address=False)
    _, codes = switch_on(page)
    page.get_by_role("button", name="Copy codes").click()
    expect(page.get_by_role("status")).to_have_text("Recovery codes copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(codes)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download codes").click()
    assert downloading.value.suggested_filename == "recovery-codes.txt"
    assert downloading.value.path().read_text().split() == codes


def test_recovery_codes_are_renewed_and_the_factor_removed(expecting: Visitor, page: Page) -> None:
    register(page, address=False)
    _, codes = switch_on(page)
    page.get_by_text("Get new recovery codes").click()
    form = page.locator("#renew-codes")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(codes[0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Your old recovery codes no longer work.")
    renewed = page.locator("#codes").inner_text().split()
    assert not set(codes) & set(renewed)
    page.get_by_text("Turn off two-factor authentication").first.click()
    form = page.locator("#remove-factor")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(codes[1])
    page.keyboard.press("Enter")
    expect(form.get_by_label("Code")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("Code").fill(renewed[0])
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Two-factor authentication is off.")
    expect(page.locator("#events li:has(.warning) [data-kind]").first).to_have_text(
        "two-factor authentication turned off"
    )
    sign_out(page)
    fill_in(page, "ann", PASSWORD)
    wait_for_account(page)


def test_expired_login_starts_over(expecting: Visitor, page: Page) -> None:
    register(page, address=False)
    switch_on(page)
    sign_out(page)
    fill_in(page, "ann", PASSWORD)
    expired: dict[str, Any] = {"status": 401, "json": {"detail": "Begin anew.", "code": "invalid_challenge"}}
    page.route("**/second-factor", lambda route: route.fulfill(**expired))
    enter(page, "123456")
    expect(page.get_by_role("alert")).to_have_text("Begin anew.")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_browsable_api_also_asks_for_the_code(visit: Visit) -> None:
    page = visit().open()
    register(page, address=False)
    _, codes = switch_on(page)
    browsing = visit().open("/api/sign-in")
    fill_in(browsing, "ann", PASSWORD)
    expect(browsing.get_by_role("alert").or_(browsing.locator(".error")).first).to_be_visible()
    browsing.get_by_label("Two-factor code").fill(codes[0])
    browsing.keyboard.press("Enter")
    expect(browsing.get_by_role("button", name="Sign out")).to_be_visible()


def test_changing_the_address_and_deleting_the_account_need_a_code(expecting: Visitor, page: Page) -> None:
    register(page, address=False)
    page.get_by_text("Change the email address").click()
    expect(page.locator("#change-email").get_by_label("Code")).to_be_hidden()
    _, codes = switch_on(page)
    form = page.locator("#change-email")
    form.get_by_label("New email address").fill("ann@example.com")
    form.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(form.get_by_label("Code")).to_have_accessible_description(
        "Enter the code from your authenticator app, or a recovery code."
    )
    form.get_by_label("Code").fill(codes[0])
    page.keyboard.press("Enter")
    expect(page.get_by_text("ann@example.com").first).to_be_visible()
    page.get_by_text("Delete account").first.click()
    page.get_by_role("button", name="Delete account").click()
    form = page.locator("#delete-account")
    form.get_by_label("Your password").fill(PASSWORD)
    form.get_by_label("Code").fill(codes[1])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_other_devices_are_signed_out_on_request(expecting: Visitor, visit: Visit, page: Page) -> None:
    register(page, address=False)
    elsewhere = visit()
    elsewhere.expect_complaint("401 (Unauthorized)")
    other = elsewhere.open("/")
    fill_in(other, "ann", PASSWORD)
    wait_for_account(other)
    page.reload()
    page.get_by_text("Turn on two-factor authentication").click()
    page.locator("#enrol").get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Code from the app")).to_be_focused()
    device = Device(page.locator("#secret").inner_text().replace(" ", ""))
    page.get_by_label("Code from the app").fill(device.code())
    page.locator("#confirm-factor").get_by_label("Sign out other devices").check()
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("status")).to_have_text("Two-factor authentication is on.")
    other.reload()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
