"""Every story of the account page, by clicking."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from accounts.models import User
from tests.browser.conftest import Visit, Visitor
from tests.browser.people import LINUX, PHONE, confirm, fill_in, link_in_mail, register, sign_in, wait_for_account
from tests.clients import PASSWORD
from tests.server import address_of_database, serve
from tokens.models import Session
from tokens.tokens import RefreshToken

NEW_PASSWORD = "a rather different sentence"
NOW, HOURS = timedelta(0), timedelta(hours=2)

Enter = Callable[[Page, timedelta], None]


def devices(page: Page) -> Any:
    """Return the rows of the list, but not those that stand there while it loads."""
    return page.locator("#devices > li:not(.skeleton)")


def test_new_user_sees_the_account(page: Page) -> None:
    register(page)
    expect(page.locator("[data-me=username]")).to_have_text("ann")
    expect(page.locator("[data-me=email]")).to_have_text("ann@example.com")
    expect(page.get_by_text("not verified")).to_be_visible()
    expect(devices(page)).to_have_text(re.compile(r"Firefox on Linux\s+here\s+last used now · 127\.0\.0\.1"))
    expect(page.locator("#events > li [data-kind]")).to_have_text(["signed in", "registered"])
    expect(page).to_have_title("Your account · Latchkey")


def test_form_shows_each_error_at_its_field(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    page.goto("/#register")
    page.get_by_label("Username").fill("ann@home")
    page.get_by_label("Password").fill("12345")
    page.get_by_role("button", name="Create account").click()
    username, password = page.get_by_label("Username"), page.get_by_label("Password")
    expect(username).to_be_focused()
    expect(username).to_have_attribute("aria-invalid", "true")
    expect(username).to_have_accessible_description(re.compile("Enter a valid username"))
    expect(password).to_have_accessible_description(re.compile("too short"))
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    wait_for_account(page)


def test_sign_in_after_a_wrong_password(visit: Visit) -> None:
    register(visit().open())
    visitor = visit()
    visitor.expect_complaint("401 (Unauthorized)")
    page = visitor.open("/")
    fill_in(page, "ann", "wrong")
    expect(page.get_by_role("alert")).to_have_text("The username or password is wrong.")
    expect(page.get_by_label("Username or email address")).to_have_value("ann")
    fill_in(page, "ann@example.com", PASSWORD)
    expect(page.get_by_role("heading", name="Your account")).to_be_focused()


def test_throttling_has_its_own_message(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("401 (Unauthorized)", "429 (Too Many Requests)")
    page.goto("/")
    for _ in range(11):
        fill_in(page, "nobody", "wrong")
        expect(page.locator("#login")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("alert")).to_contain_text("Too many tries. Wait ")


def test_sign_out_ends_the_session_for_good(page: Page) -> None:
    register(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    assert [cookie["name"] for cookie in page.context.cookies()] == []
    page.reload()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("ann@example.com")).to_have_count(0)


def test_reopened_page_is_signed_in(page: Page) -> None:
    register(page)
    page.reload()
    expect(page.locator("[data-me=username]")).to_have_text("ann")


def test_no_script_can_read_a_token(page: Page) -> None:
    register(page)
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, {...window}.client])"
    )
    assert kept == '[{},{},"",null]'
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["path"]) == ("refreshToken", True, "/auth")
    assert (cookie["sameSite"], cookie["secure"]) == ("Strict", True)


def test_stale_answer_does_not_replace_a_newer_one(page: Page) -> None:
    late: list[tuple[Route, APIResponse]] = []

    def hold_back(route: Route) -> None:
        if route.request.method == "GET":
            late.append((route, route.fetch()))
        else:
            route.fulfill(response=route.fetch())
            ((former, answer),) = late
            former.fulfill(response=answer)

    register(page)
    page.route("**/api/me/", hold_back)
    page.reload()
    page.get_by_text("Change the username").first.click()
    page.get_by_label("New username").fill("anne")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Your username has been changed.")
    expect(page.locator("#factor-state")).not_to_be_empty()  # the previous response has arrived
    expect(page.locator("[data-me=username]")).to_have_text("anne")


def test_username_changes(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    register(page)
    page.get_by_text("Change the username").first.click()
    field = page.get_by_label("New username")
    field.fill("an n")
    page.keyboard.press("Enter")
    expect(field).to_have_accessible_description(re.compile("Enter a valid username"))
    field.fill("anne")
    page.keyboard.press("Enter")
    expect(page.locator("[data-me=username]")).to_have_text("anne")
    expect(page.locator("#who")).to_have_text("anne")
    expect(page.get_by_role("status")).to_have_text("Your username has been changed.")
    expect(page.locator("summary").first).to_be_focused()


def test_address_changes_and_is_verified_by_the_mailed_link(visitor: Visitor, page: Page, mails: Path) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    register(page)
    page.get_by_text("Change the email address").first.click()
    page.get_by_label("New email address").fill("new@example.com")
    page.locator("#change-email").get_by_label("Your password").fill("wrong")
    page.keyboard.press("Enter")
    password = page.locator("#change-email").get_by_label("Your password")
    expect(password).to_have_accessible_description("That password is wrong.")
    password.fill(PASSWORD)
    for mail in mails.iterdir():
        mail.unlink()
    page.keyboard.press("Enter")
    expect(page.locator("[data-me=email]")).to_have_text("new@example.com")
    expect(page.locator("#events [data-kind]").first).to_have_text("email address changed")

    link = link_in_mail(mails, "verify-email")
    opened = visitor.open(link)
    expect(opened).to_have_url(re.compile("/verify-email$"))
    opened.get_by_role("button", name="Confirm my address").click()
    expect(opened.get_by_role("heading", name="Your address is confirmed")).to_be_focused()
    opened.get_by_role("link", name="Go to your account").click()
    expect(opened.get_by_text("verified", exact=True)).to_be_visible()

    expect(visitor.open(link).get_by_role("heading", name="This link no longer works")).to_be_focused()


def test_link_can_be_mailed_again(page: Page, mails: Path) -> None:
    register(page)
    link_in_mail(mails, "verify-email")
    for mail in mails.iterdir():
        mail.unlink()
    page.get_by_role("button", name="Send the link again").click()
    expect(page.get_by_role("status")).to_have_text("We've sent a link to your address.")
    assert link_in_mail(mails, "verify-email")


def test_password_changes_and_signs_out_the_other_devices(visit: Visit) -> None:
    visitor, other = visit(), visit(PHONE)
    visitor.expect_complaint("400 (Bad Request)")
    other.expect_complaint("401 (Unauthorized)")
    page, elsewhere = visitor.open(), other.open()
    register(page)
    sign_in(elsewhere)
    page.get_by_text("Change the password").first.click()
    form = page.locator("#change-password")
    form.get_by_label("Your password").fill("wrong")
    form.get_by_label("New password").fill(NEW_PASSWORD)
    page.keyboard.press("Enter")
    expect(form.get_by_label("Your password")).to_have_accessible_description("That password is wrong.")
    form.get_by_label("Your password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Your password has been changed")
    expect(devices(page)).to_have_count(1)

    elsewhere.get_by_role("button", name="Send the link again").click()
    expect(elsewhere.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    fill_in(elsewhere, "ann", NEW_PASSWORD)
    wait_for_account(elsewhere)


def test_forgotten_password_is_reset_by_the_mailed_link(visit: Visit, mails: Path) -> None:
    register(visit().open())
    visitor = visit()
    visitor.expect_complaint("400 (Bad Request)")
    page = visitor.open("/")
    page.get_by_role("link", name="Forgot your password?").click()
    expect(page.get_by_role("heading", name="Reset your password")).to_be_focused()
    page.get_by_label("Email address").fill("ann@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("we've sent a link to it")

    page.goto(link_in_mail(mails, "reset-password"))
    expect(page).to_have_url(re.compile("/reset-password$"))
    page.get_by_label("New password", exact=True).fill("password")
    page.keyboard.press("Enter")
    expect(page.get_by_label("New password", exact=True)).to_have_accessible_description(re.compile("too common"))
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your password has been changed")).to_be_focused()
    page.go_back()
    assert "token" not in page.url
    page.goto("/")
    fill_in(page, "ann", NEW_PASSWORD)
    wait_for_account(page)
    expect(page.locator("#events [data-kind]")).to_contain_text(["signed in", "password reset"])


def test_truncated_link_offers_a_new_one(page: Page) -> None:
    page.goto("/reset-password")
    page.get_by_role("link", name="Ask for a new link").click()
    expect(page.get_by_role("heading", name="Reset your password")).to_be_visible()
    page.goto("/verify-email#uid=only")
    expect(page.get_by_role("heading", name="Open the link from the email")).to_be_visible()


def test_second_link_in_the_same_tab_works(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    page.goto("/verify-email")
    page.evaluate("location.hash = 'uid=MQ&token=x'")
    expect(page.get_by_role("heading", name="This link no longer works")).to_be_focused()
    expect(page.get_by_role("link", name="Go to your account")).to_be_visible()
    expect(page).to_have_url(re.compile("/verify-email$"))


def test_old_link_says_so_when_its_page_opens_and_offers_another(visit: Visit, mails: Path) -> None:
    register(visit().open())
    visitor = visit()
    visitor.expect_complaint("400 (Bad Request)")
    page = visitor.open("/#forgot")
    page.get_by_label("Email address").fill("ann@example.com")
    page.keyboard.press("Enter")
    link = link_in_mail(mails, "reset-password")
    tabs = [visitor.open(), visitor.open()]
    for tab in tabs:
        with tab.expect_response("**/reset/check"):
            tab.goto(link)
    for tab in tabs:
        with tab.expect_response("**/confirm"):
            tab.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
            tab.keyboard.press("Enter")
    expect(tabs[1].get_by_role("heading", name="This link no longer works")).to_be_focused()

    page.goto(link)
    expect(page.get_by_role("heading", name="This link no longer works")).to_be_focused()
    expect(page.get_by_label("New password", exact=True)).to_be_hidden()
    page.get_by_role("link", name="Ask for a new link").click()
    expect(page.get_by_role("heading", name="Reset your password")).to_be_visible()


def test_another_device_is_listed_and_ended(visit: Visit) -> None:
    phone = visit(PHONE)
    phone.expect_complaint("401 (Unauthorized)")
    page, elsewhere = visit().open(), phone.open()
    register(page)
    sign_in(elsewhere)
    page.reload()
    expect(devices(page)).to_contain_text(["Firefox on Linux", "Mobile Safari on iOS"])
    page.get_by_role("button", name="Sign out Mobile Safari on iOS").click()
    expect(page.get_by_role("status")).to_have_text("You signed out Mobile Safari on iOS.")
    expect(devices(page)).to_have_count(1)
    expect(page.locator("#devices-title")).to_be_focused()
    expect(page.locator("#events [data-kind]").first).to_have_text("session revoked")
    expect(page.locator("#events [data-reason]").first).to_have_text("revoked by you")

    elsewhere.get_by_text("Change the username").first.click()
    elsewhere.get_by_label("New username").fill("anne")
    elsewhere.keyboard.press("Enter")
    expect(elsewhere.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    expect(elsewhere.get_by_text("ann@example.com")).to_have_count(0)


def test_all_other_devices_are_ended_after_a_confirmation(visit: Visit) -> None:
    page = visit().open()
    register(page)
    for _ in range(2):
        sign_in(visit(PHONE).open())
    page.reload()
    expect(devices(page)).to_have_count(3)
    page.get_by_role("button", name="Sign out all others").click()
    page.get_by_role("button", name="Cancel").click()
    expect(devices(page)).to_have_count(3)
    page.get_by_role("button", name="Sign out all others").click()
    page.get_by_role("button", name="Sign them out").click()
    expect(page.get_by_role("status")).to_have_text("Other devices signed out: 2.")
    expect(devices(page)).to_have_count(1)
    expect(page.get_by_role("button", name="Sign out all others")).to_be_hidden()


def test_device_that_ended_meanwhile_leaves_the_list(visit: Visit) -> None:
    visitor = visit()
    visitor.expect_complaint("404 (Not Found)")
    page, elsewhere = visitor.open(), visit(PHONE).open()
    register(page)
    sign_in(elsewhere)
    page.reload()
    expect(devices(page)).to_have_count(2)
    elsewhere.get_by_role("button", name="Sign out", exact=True).click()
    expect(elsewhere.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Sign out Mobile Safari on iOS").click()
    expect(devices(page)).to_have_count(1)


def test_long_lists_are_read_page_by_page(visit: Visit) -> None:
    page = visit().open()
    register(page)
    for _ in range(11):
        page.context.request.post("/api/token/", data={"username": "ann", "password": PASSWORD})
    page.reload()
    expect(devices(page)).to_have_count(10)
    page.locator("[data-list=devices]").click()
    expect(devices(page)).to_have_count(12)
    expect(page.locator("[data-list=devices]")).to_be_hidden()
    page.locator("[data-list=events]").click()
    expect(page.locator("#events > li")).to_have_count(13)


@pytest.mark.parametrize("remember", [True, False])
def test_device_is_remembered_by_default(page: Page, remember: bool) -> None:
    box = page.get_by_label("Keep me signed in on this device")
    page.goto("/#register")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    expect(box).to_be_checked()
    box.set_checked(remember)
    page.get_by_role("button", name="Create account").click()
    wait_for_account(page)
    assert is_remembered(page) is remember
    page.get_by_role("button", name="Sign out").click()
    expect(box).to_be_checked()
    box.set_checked(remember)
    fill_in(page, "ann", PASSWORD)
    wait_for_account(page)
    assert is_remembered(page) is remember


def is_remembered(page: Page) -> bool:
    (cookie,) = page.context.cookies()
    return cookie["expires"] != -1  # -1: it ends with the browser


def test_account_is_deleted_after_a_confirmation_and_the_password(visit: Visit) -> None:
    visitor, other = visit(), visit(PHONE)
    visitor.expect_complaint("400 (Bad Request)", "401 (Unauthorized)")
    other.expect_complaint("401 (Unauthorized)")
    page, elsewhere = visitor.open(), other.open()
    register(page)
    sign_in(elsewhere)
    page.get_by_text("Delete account").first.click()
    page.get_by_role("button", name="Delete account").click()
    password = page.get_by_role("dialog").get_by_label("Your password")
    expect(password).to_be_focused()
    password.fill(PASSWORD)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Delete account").click()
    expect(password).to_have_value("")
    password.fill("wrong")
    page.keyboard.press("Enter")
    expect(password).to_have_accessible_description("That password is wrong.")
    password.fill(PASSWORD)
    page.get_by_role("button", name="Delete permanently").click()
    expect(page.get_by_role("status")).to_have_text("Your account has been deleted.")
    expect(page.get_by_role("heading", name="Sign in")).to_be_focused()
    assert page.context.cookies() == []
    elsewhere.get_by_role("button", name="Send the link again").click()
    expect(elsewhere.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    fill_in(page, "ann", PASSWORD)
    expect(page.get_by_role("alert")).to_have_text("The username or password is wrong.")


def test_times_are_shown_relative_to_now(page: Page) -> None:
    register(page)
    expect(page.locator("[data-last-used]")).to_have_text("now")
    for later, words in ((125, "2 minutes ago"), (3700, "1 hour ago"), (50 * 3600, "2 days ago")):
        page.clock.set_system_time(datetime.now(UTC) + timedelta(seconds=later))
        page.reload()
        expect(page.locator("[data-last-used]")).to_have_text(words)


def test_everything_works_with_the_keyboard_alone(visit: Visit) -> None:
    page, elsewhere = visit().open("/"), visit(PHONE).open()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()

    def reach(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()")
            if name in (focused, page.evaluate("document.activeElement.ariaLabel")):
                return
        raise AssertionError(f"{name} can't be reached")

    def press(name: str) -> None:
        reach(name)
        page.keyboard.press("Enter")

    expect(page.get_by_label("Username or email address")).to_be_focused()
    press("Create an account")
    for name, value in (("Username", "ann"), ("Password", PASSWORD)):
        reach(name)
        page.keyboard.type(value)
    press("Create account")
    expect(page.get_by_role("heading", name="Your account")).to_be_focused()
    sign_in(elsewhere)
    page.reload()
    expect(devices(page)).to_have_count(2)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press("Sign out Mobile Safari on iOS")
    expect(devices(page)).to_have_count(1)
    press("Change the username")
    reach("New username")
    page.keyboard.type("anne")
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_have_text("anne")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#who")).to_have_text("anne")
    press("Sign out")
    expect(page.get_by_role("heading", name="Sign in")).to_be_focused()


@pytest.fixture
def strict(transactional_db: None, mails: Path) -> Iterator[str]:
    """The base URL of a server that requires verified addresses."""
    mail = f"filemail:///{mails}"
    with serve(address_of_database(), EMAIL_URL=mail, THREADS="8", EMAIL_VERIFICATION="required") as url:
        yield url


def test_unverified_user_signs_in_after_the_mailed_link(visit: Visit, strict: str, mails: Path) -> None:
    visitor = visit(base_url=strict)
    visitor.expect_complaint("400 (Bad Request)", "401 (Unauthorized)")
    page = visitor.open("/#register")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_label("Email address")).to_have_accessible_description(re.compile("This field is required."))
    page.get_by_label("Email address").fill("ann@example.com")
    page.get_by_role("button", name="Create account").click()
    heading = page.get_by_role("heading", name="Sign in")
    expect(heading).to_be_focused()
    expect(heading).to_have_accessible_description(re.compile("Check your email and open the link"))
    fill_in(page, "ann", PASSWORD)
    expect(page.get_by_role("alert")).to_contain_text("open the link in the email first")

    page.goto(link_in_mail(mails, "verify-email"))
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("You can sign in now.")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    fill_in(page, "ann", PASSWORD)
    wait_for_account(page)
    expect(page.get_by_text("verified", exact=True)).to_be_visible()


@pytest.mark.parametrize("agent", [LINUX])
def test_taken_name_is_shown_at_registration(visit: Visit, agent: str) -> None:
    register(visit(agent).open())
    visitor = visit(agent)
    visitor.expect_complaint("400 (Bad Request)")
    page = visitor.open("/#register")
    page.get_by_label("Username").fill("ANN")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Username")).to_have_accessible_description("This username is taken.")


def test_page_offers_a_retry_while_the_server_is_away(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("net::ERR_FAILED", "401 (Unauthorized)", "400 (Bad Request)")
    page.route("**/auth/refresh-token", lambda route: route.abort())
    page.goto("/#register")
    expect(page.get_by_role("alert")).to_have_text("The server can't be reached. Try again in a moment.")
    page.unroute("**/auth/refresh-token")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Username")).to_be_focused()
    page.get_by_label("Username").fill("a@b")
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Show password").click()
    expect(page.get_by_label("Password")).to_have_attribute("type", "text")
    page.get_by_role("button", name="Create account").click()
    expect(page.locator("#register .error")).to_have_count(2)
    expect(page.get_by_label("Password")).to_have_attribute("type", "password")


def test_device_is_renamed(visitor: Visitor, page: Page) -> None:
    register(page)
    page.get_by_role("button", name="Rename Firefox on Linux").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Kitchen")
    page.keyboard.press("Enter")
    expect(page.locator("#devices span[data-device]")).to_have_text(["Kitchen"])


def test_account_that_failed_to_load_is_loaded_on_retry(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("net::ERR_FAILED")
    register(page)
    page.route("**/api/me/", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert").first).to_have_text("The server can't be reached. Try again in a moment.")
    page.unroute("**/api/me/")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("[data-me=username]")).to_have_text("ann")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


@pytest.fixture
def guest(site: str, settings: Any) -> Enter:
    """Sign in a user without a password, as another service's login does, so long ago; open the account page."""
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "ISSUER": site, "AUDIENCE": site}
    user = User.objects.create_user("ann", "ann@example.com", email_verified=True)
    refresh = {ago: str(RefreshToken.for_user(user)) for ago in (NOW, HOURS)}
    old = RefreshToken(refresh[HOURS])["sid"]
    Session.objects.filter(pk=old).update(created_at=datetime.now(UTC) - HOURS)

    def enter(page: Page, ago: timedelta) -> None:
        page.context.add_cookies(
            [{"name": "refreshToken", "value": refresh[ago], "domain": "127.0.0.1", "path": "/auth"}]
        )
        page.goto("/")
        expect(page.get_by_text("Set a password").first).to_be_visible()
        expect(page.locator("#view [name=currentPassword]:visible")).to_have_count(0)

    return enter


def test_account_without_a_password_is_asked_for_none(guest: Enter, visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("401 (Unauthorized)")
    guest(page, HOURS)
    page.get_by_text("Turn on two-factor authentication").click()
    enrol = page.locator("#enrol")
    expect(enrol.get_by_label("Your password")).to_be_hidden()
    enrol.get_by_role("button", name="Continue").click()
    expect(enrol.get_by_role("alert")).to_have_text("This needs a recent sign-in. Sign in again.")
    guest(page, NOW)
    page.get_by_text("Turn on two-factor authentication").click()
    enrol.get_by_role("button", name="Continue").click()
    _, codes = confirm(page)

    page.get_by_text("Change the email address").click()
    form = page.locator("#change-email")
    form.get_by_label("New email address").fill("new@example.com")
    form.get_by_label("Code").fill(codes[0])
    form.get_by_role("button", name="Change the address").click()
    # No factor took part in this sign-in.
    renewal = page.get_by_role("dialog", name="Confirm that it's you")
    expect(renewal.get_by_label("Code")).to_be_focused()
    expect(renewal.get_by_label("Your password")).to_be_hidden()
    renewal.get_by_role("button", name="Cancel").click()
    expect(form.get_by_role("alert")).to_contain_text("Confirm that it's you with your second factor")
    form.get_by_role("button", name="Change the address").click()
    renewal.get_by_label("Code").fill(codes[1])
    page.keyboard.press("Enter")
    expect(page.locator("[data-me=email]")).to_have_text("new@example.com")

    page.get_by_text("Delete account").first.click()
    page.get_by_role("button", name="Delete account").click()
    deletion = page.get_by_role("dialog", name="Delete your account permanently?")
    deletion.get_by_label("Code").fill(codes[2])
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Your account has been deleted.")


def test_first_password_is_set_and_asked_for_from_then_on(guest: Enter, page: Page) -> None:
    guest(page, NOW)
    page.get_by_text("Set a password").first.click()
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Your password has been set")
    page.get_by_text("Change the password").first.click()
    expect(page.locator("#change-password").get_by_label("Your password")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    fill_in(page, "ann", NEW_PASSWORD)
    wait_for_account(page)
