import pytest

from accounts.models import User
from tests.clients import PASSWORD, Browser


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_user("ann", "ann@example.com", PASSWORD)


@pytest.fixture
def browser(ann: User) -> Browser:
    """A browser in which ann has signed in."""
    browser = Browser()
    assert browser.login().status_code == 200
    return browser
