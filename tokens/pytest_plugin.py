"""The plugin for pytest. pytest loads it before there are settings, so the fixture imports what needs them."""

from typing import Any

import pytest
from django.utils.module_loading import import_string


@pytest.fixture
def latchkey_client() -> Any:
    """Return an APIClient of `testing`, in which nobody has signed in."""
    return import_string(f"{__package__}.testing.APIClient")()
