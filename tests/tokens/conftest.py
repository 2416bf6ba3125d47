from typing import Any

import pytest
from django.contrib.auth import get_user_model

from tests.clients import PASSWORD, App, Browser


@pytest.fixture
def ann(db: None) -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@pytest.fixture
def browser(ann: Any) -> Browser:
    """A browser in which ann has signed in."""
    browser = Browser()
    assert browser.login().status_code == 200
    return browser


@pytest.fixture
def app(ann: Any) -> App:
    """An app in which ann has signed in."""
    app = App()
    assert app.login().status_code == 200
    return app
