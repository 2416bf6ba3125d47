"""What one user may do to another."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from tokens.domain.authority import may_act_on, within_reach

pytestmark = pytest.mark.django_db


def user(name: str, *rights: str, **flags: bool) -> Any:
    manager: Any = get_user_model()._default_manager
    made = manager.create_user(name, **flags)
    made.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return made


def test_users_act_only_on_users_without_more_rights() -> None:
    root, toor = (user(name, is_superuser=True) for name in ("root", "toor"))
    chief, clerk, helper = user("chief", "add_session", "view_session"), user("clerk", "view_session"), user("helper")
    peers = user("peer", "view_session", is_active=False)
    everybody = [root, toor, chief, clerk, helper, peers]
    reached = {
        root.get_username(): everybody,
        chief.get_username(): [chief, clerk, helper, peers],
        clerk.get_username(): [clerk, helper, peers],
        helper.get_username(): [helper],
    }
    for actor in (root, chief, clerk, helper):
        assert within_reach(actor, everybody) == reached[actor.get_username()]


def test_rights_of_deactivated_users_count() -> None:
    clerk, off = user("clerk", "view_session"), user("off", "add_session", is_active=False)
    assert not may_act_on(clerk, off)


def test_users_without_permissions_may_act_on_each_other() -> None:
    class Plain:
        is_active = True

    assert may_act_on(Plain(), Plain())
