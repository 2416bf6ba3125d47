import pytest

from accounts.models import User
from tests.api.people import Person, register, sign_in
from tests.clients import PASSWORD


@pytest.fixture
def ann(db: None) -> Person:
    return register("ann")


@pytest.fixture
def ben(db: None) -> Person:
    return register("ben")


@pytest.fixture
def staff(db: None) -> Person:
    User.objects.create_user("sue", "sue@example.com", PASSWORD, is_staff=True)
    return sign_in("sue")


@pytest.fixture
def superuser(db: None) -> Person:
    User.objects.create_superuser("root", "root@example.com", PASSWORD)
    return sign_in("root")
