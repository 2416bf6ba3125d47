"""axe-core finds nothing, in light and dark mode, on a desktop and on a phone."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.conf import settings
from playwright.sync_api import Page, ViewportSize, expect

from accounts.mail.links import Link, reset_password, verify_email
from accounts.models import User
from tests.browser.conftest import Visit
from tests.browser.people import register, sign_in_to_api, switch_on
from tests.clients import PASSWORD

DESK: ViewportSize = {"width": 1180, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}


def heading(name: str) -> Callable[[Page], None]:
    return lambda page: expect(page.get_by_role("heading", name=name).first).to_be_visible()


def account(page: Page) -> None:
    register(page)
    expect(page.locator("#devices > li")).to_have_count(1)
    expect(page.locator("#events > li:not(.skeleton)")).to_have_count(2)
    expect(page.get_by_text("Turn on two-factor authentication")).to_be_visible()
    for summary in page.locator("summary:visible").all():
        summary.click()
    page.locator("#change-password button[type=submit]").click()
    expect(page.locator("#change-password .error").first).to_be_visible()


def enrolment(page: Page) -> None:
    register(page, address=False)
    page.get_by_text("Turn on two-factor authentication").click()
    page.locator("#enrol-password").fill(PASSWORD)
    page.locator("#enrol button[type=submit]").click()
    expect(page.locator("#secret")).to_be_visible()


def codes(page: Page) -> None:
    register(page, address=False)
    switch_on(page)
    for summary in page.locator("summary:visible").all():
        summary.click()


def deletion(page: Page) -> None:
    register(page)
    page.get_by_text("Delete account").first.click()
    page.get_by_role("button", name="Delete account").click()
    page.get_by_role("button", name="Delete permanently").click()
    expect(page.locator("#delete-account .error")).to_be_visible()


def mailed(link: Link) -> Callable[[User], str]:
    """Return a function that finds a valid link, with the address of the test's server."""
    return lambda user: link.url(user).removeprefix(settings.PUBLIC_URL)


def client(page: Page) -> None:
    expect(page.locator("#code")).to_contain_text("import")


def signed_in(path: str) -> Callable[[Page], None]:
    def browse(page: Page) -> None:
        register(page)
        sign_in_to_api(page)
        page.goto(path)

    return browse


def admin(page: Page) -> None:
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Day by day").first.click()


def admin_session(page: Page) -> None:
    admin(page)
    page.goto("/admin/latchkey/session/")
    page.locator("#result_list th a").first.click()
    expect(page.get_by_role("link", name="Close")).to_be_visible()


def renaming(page: Page) -> None:
    register(page)
    page.get_by_role("button", name="Rename Firefox on Linux").click()
    expect(page.locator("#rename-device-name")).to_be_visible()


VIEWS: dict[str, tuple[str | Callable[[User], str], Callable[[Page], None]]] = {
    "sign-in": ("/", heading("Sign in")),
    "registration": ("/#register", heading("Create an account")),
    "forgotten password": ("/#forgot", heading("Reset your password")),
    "account": ("", account),
    "enrolment": ("", enrolment),
    "recovery codes": ("", codes),
    "deletion": ("", deletion),
    "reset": (mailed(reset_password), heading("Choose a new password")),
    "verification": (mailed(verify_email), heading("Confirm your address")),
    "old link": ("/reset-password#uid=a&token=b", heading("This link no longer works")),
    "incomplete link": ("/verify-email", heading("Open the link from the email")),
    "client": ("/client", client),
    "no such page": ("/nowhere", heading("Page not found")),
    "API": ("/api/", heading("API")),
    "API sign-in": ("/api/sign-in", heading("Sign in to browse the API")),
    "API form": ("", signed_in("/api/me/")),
    "API list": ("", signed_in("/api/sessions/")),
    "API token": ("/api/token/", heading("Sign in (body transport)")),
    "renaming": ("", renaming),
    "admin sign-in": ("/admin/login/", heading("Sign in")),
    "admin": ("/admin/", admin),
    "admin session": ("/admin/", admin_session),
    "API users": ("/api/users/", heading("Users")),
}


SETTLED = """() => Promise.allSettled(
    document.getAnimations().filter((each) => each instanceof CSSTransition).map((each) => each.finished))"""
"""Waits for colours that are changing from light to dark; a newer change may replace one."""


LOADED = Axe("!!axe")
"""Runs axe-core in a page that has loaded it. Otherwise each run would load it again."""


@pytest.fixture
def root(transactional_db: None) -> User:
    return User.objects.create_superuser("root", "root@example.com", PASSWORD)


@pytest.mark.parametrize(("path", "prepare"), VIEWS.values(), ids=VIEWS.keys())
def test_pages_have_no_accessibility_violations(
    root: User, visit: Visit, path: str | Callable[[User], str], prepare: Callable[[Page], None]
) -> None:
    visitor = visit(viewport=DESK)
    visitor.expect_complaint("400 (Bad Request)", "401 (Unauthorized)", "404 (Not Found)", "405 (Method Not Allowed)")
    # axe-core's own, on a page that is long: it reads style sheets that are not there any more.
    visitor.expect_complaint("Applying inline style", "Couldn't load preload assets")
    page = visitor.open(path if isinstance(path, str) else path(root))
    prepare(page)
    page.evaluate(Axe().axe_script)
    for viewport in (DESK, PHONE):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.evaluate(SETTLED)
            found = LOADED.run(page)
            assert found.violations_count == 0, found.generate_report()


COLOURS = """element => [getComputedStyle(element).color,
    getComputedStyle(element.closest(".selector-chosen-title")).backgroundColor]"""


def test_heads_of_chosen_permissions_are_not_in_the_colour_of_their_ground(root: User, visit: Visit) -> None:
    """Axe leaves open whether such text is meant to be seen."""
    page = visit(viewport=DESK).open("/admin/")
    admin(page)
    page.goto("/admin/accounts/user/")
    page.get_by_role("link", name="root", exact=True).click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        text, ground = page.locator(".selector-chosen-title label").first.evaluate(COLOURS)
        assert text != ground
