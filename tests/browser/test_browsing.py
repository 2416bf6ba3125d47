"""The browsable API, by clicking: signing in, the forms of every viewset, and being signed out once the session has
ended."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit, Visitor
from tests.browser.people import PHONE, fill_in, register, sign_in, sign_in_to_api
from tests.clients import PASSWORD


@pytest.fixture
def staff(site: str, django_user_model: Any) -> Any:
    return django_user_model.objects.create_superuser("root", "root@example.com", PASSWORD)


def answer(page: Page) -> Locator:
    return page.locator("#answer")


def test_sign_in_redirects_back_to_the_page(visit: Visit) -> None:
    register(visit().open())
    visitor = visit()
    visitor.expect_complaint("401 (Unauthorized)")
    page = visitor.open("/api/me/")
    expect(answer(page)).to_have_text("401 Unauthorized")
    page.get_by_role("link", name="Sign in").click()
    fill_in(page, "ann", "wrong")
    expect(page.get_by_role("alert")).to_have_text("The username or password is wrong.")
    fill_in(page, "ann", PASSWORD)
    expect(page).to_have_url(re.compile("/api/me/$"))
    expect(page.get_by_role("main")).to_contain_text('"username": "ann"')
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_root_links_everywhere(page: Page, site: str) -> None:
    register(page)
    sign_in_to_api(page)
    for path in ("/api/me/", "/api/sessions/", "/api/security-events/"):
        page.goto("/api/")
        page.get_by_role("link", name=f"{site}{path}").click()
        expect(answer(page)).to_have_text("200 OK")
        expect(page.get_by_role("navigation", name="Breadcrumbs")).to_be_visible()


def test_account_is_changed_by_its_form(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    register(page)
    sign_in_to_api(page)
    page.goto("/api/me/")
    form = page.locator("form[data-method=PATCH]").first
    form.get_by_label("Email").fill("new@example.com")
    form.get_by_role("button").click()
    expect(answer(page)).to_have_text("400 Bad Request")
    form.get_by_label(re.compile("password", re.IGNORECASE)).fill(PASSWORD)
    form.get_by_role("button").click()
    expect(answer(page)).to_have_text("200 OK")
    expect(page.get_by_role("main")).to_contain_text('"email": "new@example.com"')
    form.get_by_label("Username").fill("anne")
    form.get_by_role("button").click()
    expect(page.get_by_role("banner")).to_contain_text("anne")


def test_raw_data_is_sent_unchanged(visitor: Visitor, page: Page) -> None:
    visitor.expect_complaint("400 (Bad Request)")
    register(page)
    sign_in_to_api(page)
    page.goto("/api/me/")
    page.get_by_text("Raw data").click()
    page.get_by_label("Content").fill('{"username": "anne"')
    page.locator("[data-raw]").get_by_role("button").click()
    expect(answer(page)).to_have_text("400 Bad Request")
    expect(page.get_by_label("Content")).to_have_value('{"username": "anne"')
    page.get_by_label("Content").fill('{"username": "anne"}')
    page.locator("[data-raw]").get_by_role("button").click()
    expect(page.get_by_role("banner")).to_contain_text("anne")


def test_sessions_are_ended_from_their_list(visit: Visit) -> None:
    page = visit().open()
    register(page)
    sign_in_to_api(page)
    for _ in range(2):
        sign_in(visit(PHONE).open())
    page.goto("/api/sessions/")
    rows = page.locator(".rows > li")
    expect(rows).to_have_count(4)
    page.get_by_role("button", name="DELETE Mobile Safari on iOS").first.click()
    expect(rows).to_have_count(3)
    expect(page.get_by_role("status")).to_contain_text("204 No Content")
    page.get_by_role("button", name="Revoke others").click()
    expect(page.get_by_role("main")).to_contain_text('"revoked": 2')


def test_methods_without_a_body_have_a_button(visitor: Visitor, page: Page) -> None:
    register(page)
    sign_in_to_api(page)
    page.goto("/api/me/")
    page.get_by_role("button", name="OPTIONS").click()
    expect(page.get_by_role("main")).to_contain_text("OPTIONS /api/me/")


def test_log_is_read_page_by_page(visitor: Visitor, page: Page) -> None:
    register(page)
    sign_in_to_api(page)
    page.goto("/api/security-events/?pageSize=2")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("main")).to_contain_text('"kind": "registered"')
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_role("main")).not_to_contain_text('"kind": "registered"')


def test_staff_finds_and_deactivates_a_user(visit: Visit, staff: Any) -> None:
    victim = visit(PHONE)
    victim.expect_complaint("401 (Unauthorized)")
    phone = victim.open()
    register(phone, "mallory")
    page = visit().open()
    sign_in_to_api(page, "root")
    page.goto("/api/users/")
    page.get_by_label("Search").fill("MALL")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".rows > li")).to_have_count(1)
    page.get_by_role("link", name="mallory", exact=True).click()
    page.get_by_role("button", name="Revoke sessions").click()
    expect(page.get_by_role("main")).to_contain_text('"revoked": 1')
    page.go_back()
    page.get_by_role("link", name="mallory", exact=True).click()
    page.get_by_label(re.compile("active", re.IGNORECASE)).uncheck()
    page.locator("form[data-method=PATCH]").first.get_by_role("button").click()
    expect(page.get_by_role("main")).to_contain_text('"isActive": false')
    phone.get_by_role("button", name="Send the link again").click()
    expect(phone.get_by_text("Your session has ended")).to_be_visible()


def test_session_revoked_elsewhere_is_signed_out_at_the_next_click(visit: Visit) -> None:
    visitor = visit()
    visitor.expect_complaint("401 (Unauthorized)")
    page = visitor.open()
    register(page)
    sign_in_to_api(page)
    elsewhere = visit(PHONE).open()
    sign_in(elsewhere)
    elsewhere.get_by_role("button", name="Sign out all others").click()
    elsewhere.get_by_role("button", name="Sign them out").click()
    expect(elsewhere.get_by_role("status")).to_have_text("Other devices signed out: 2.")

    page.goto("/api/sessions/")
    expect(page.get_by_text("Your session has ended. Sign in again.")).to_be_visible()
    expect(page.get_by_role("main")).not_to_contain_text("userAgent")
    assert "sessionid" not in [cookie["name"] for cookie in page.context.cookies()]


def test_foreign_page_cannot_trigger_actions(visitor: Visitor, page: Page, site: str) -> None:
    """Another site's requests carry no cookie, and a cookie alone would not be enough."""
    visitor.expect_complaint("Failed to load resource", "blocked by CORS policy", "ERR_")
    register(page)
    sign_in_to_api(page)
    page.context.request.post("/api/token/", data={"username": "ann", "password": PASSWORD})
    foreign = visitor.open()
    target = f"{site}/api/sessions/revoke-others/"
    body = f'<form method="post" action="{target}"><button>Win a prize</button></form>'
    foreign.route("http://evil.example/", lambda route: route.fulfill(body=body, content_type="text/html"))
    foreign.goto("http://evil.example/")
    for mode in ("no-cors", "cors"):
        sent = f"fetch('{target}', {{method: 'POST', mode: '{mode}', credentials: 'include'}}).catch(() => {{}})"
        foreign.evaluate(sent)
    foreign.get_by_role("button").click()
    expect(foreign.get_by_text("401")).to_be_visible()
    page.goto("/api/sessions/")
    expect(page.locator(".rows > li")).to_have_count(3)


def test_documentation_opens(visitor: Visitor, page: Page) -> None:
    page.goto("/api/docs/")
    expect(page.get_by_role("heading", name=re.compile("Latchkey"))).to_be_visible()
    page.get_by_text("Get your account").click()
    expect(
        page.get_by_text("Authentication credentials", exact=False).or_(page.get_by_text("Responses")).first
    ).to_be_visible()


def test_admin_opens(visitor: Visitor, page: Page, staff: Any) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    for path in ("accounts/user/", f"accounts/user/{staff.pk}/change/", "latchkey/session/", "latchkey/securityevent/"):
        page.goto(f"/admin/{path}")
        expect(page.locator("#content h1")).to_be_visible()
