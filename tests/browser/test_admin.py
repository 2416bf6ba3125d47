"""The admin as an operator uses it, and what the account's owner sees."""

import re

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from tests.browser.conftest import Visit
from tests.browser.people import PHONE, fill_in, register, sign_in
from tests.clients import PASSWORD


@pytest.fixture
def office(site: str) -> str:
    """Return the base URL of a server with an administrator, root."""
    User.objects.create_superuser("root", "root@example.com", PASSWORD)
    return site


END = "element => element.getBoundingClientRect().right"


def enter(page: Page) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()


def test_operator_ends_a_users_sessions_and_the_user_sees_it(office: str, visit: Visit) -> None:
    owner = visit(PHONE, base_url=office)
    owner.expect_complaint("401 (Unauthorized)")
    phone, laptop, page = owner.open(), visit(base_url=office).open(), visit(base_url=office).open()
    register(phone)
    sign_in(laptop)
    enter(page)
    expect(page.locator("#content")).to_contain_text("Active sessions: 3")
    page.get_by_role("link", name="Users", exact=True).click()
    page.get_by_role("link", name="ann", exact=True).click()
    expect(page.locator(".session-status.active")).to_have_count(2)
    expect(page.get_by_role("heading", name="Recent security events")).to_be_visible()
    page.get_by_role("button", name="Revoke all sessions").click()
    expect(page.get_by_text("2 sessions were revoked.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/admin/accounts/user/\d+/change/"))

    page.goto("/admin/latchkey/session/?q=ann")
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("ended: revoked by staff")
    expect(rows.first).to_contain_text("by root from 127.0.0.1")
    expect(rows.first.locator(".session-status.ended")).to_be_visible()

    phone.get_by_role("button", name="Send the link again").click()
    expect(phone.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    fill_in(phone, "ann", PASSWORD)
    expect(phone.locator("#events li").nth(1)).to_have_text(re.compile(r"session revoked\s+revoked by staff"))


def test_lists_fit_on_a_phone(office: str, visit: Visit) -> None:
    page = visit(base_url=office, viewport={"width": 390, "height": 844}).open()
    enter(page)
    for path, lists in (
        ("/admin/latchkey/session/", ".results"),
        ("/admin/latchkey/securityevent/", ".results"),
        ("/admin/accounts/user/?q=root", ".inline-related"),
    ):
        page.goto(path)
        if lists == ".inline-related":
            page.get_by_role("link", name="root", exact=True).click()
        found = page.locator(lists)
        expect(found.first).to_contain_text("Firefox on Linux")
        assert found.evaluate_all("lists => lists.every(list => list.scrollWidth <= list.clientWidth)")


def test_expiry_of_sessions_is_in_sight_beside_a_long_name(office: str, visit: Visit) -> None:
    register(visit(base_url=office).open(), "a-name-of-rather-many-characters", address=False)
    page = visit(base_url=office, viewport={"width": 1280, "height": 860}).open()
    enter(page)
    page.goto("/admin/latchkey/session/")
    ends = [page.locator(part).first.evaluate(END) for part in ("td.field-expires", ".results")]
    assert ends == sorted(ends)


def test_staff_reach_admin_and_api_from_the_account_page_with_one_sign_in(office: str, visit: Visit) -> None:
    visitor = visit(base_url=office)
    visitor.expect_complaint("401 (Unauthorized)")
    page = visitor.open()
    register(page)
    expect(page.get_by_role("link", name="Admin", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, "root")
    page.get_by_role("link", name="Admin", exact=True).click()
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    page.goto("/api/sessions/")
    expect(page.locator(".rows > li")).to_have_count(2)

    account = visitor.open("/")
    account.get_by_role("button", name="Sign out all others").click()
    account.get_by_role("button", name="Sign them out").click()
    expect(account.get_by_role("status")).to_have_text("Other devices signed out: 1.")
    page.reload()
    expect(page.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    page.goto("/admin/")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
