from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from tests.clients import PASSWORD
from tests.server import serve


@pytest.fixture
def ann(transactional_db: None) -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


@pytest.fixture
def issuer(ann: Any, database_url: str) -> Iterator[str]:
    """The URL of a server that issues tokens, and introspects them for the service `billing`."""
    with serve(database_url, INTROSPECTION_CREDENTIALS="billing:a-long-random-secret", WORKERS="1") as url:
        yield url
