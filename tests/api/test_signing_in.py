"""Signing in to the browsable API with a second factor."""

import pytest
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.accounts.devices import Enrolled, set_up
from tests.api.people import Person
from tests.api.visitors import Visitor
from tokens.models import Session


@pytest.fixture
def ann_has(ann: Person, time_machine: TimeMachineFixture) -> Enrolled:
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    ann.login()
    enrolled = set_up(ann)
    time_machine.shift(60)
    return enrolled


def test_visitor_signs_in_with_the_code(ann_has: Enrolled) -> None:
    visitor = Visitor()
    assert visitor.sign_in(code=ann_has.device.code()).status_code == 302
    assert visitor.get().status_code == 200
    assert Session.objects.order_by("created_at").values_list("amr", flat=True).last() == "pwd otp"


@pytest.mark.parametrize("code", ["", "wrong"])
def test_visitor_without_the_code_is_refused(ann_has: Enrolled, code: str) -> None:
    visitor, count = Visitor(), Session.objects.count()
    page = visitor.sign_in(code=code)
    assert page.status_code == 200
    expected = (
        "This code is wrong or was already used."
        if code
        else "Enter the code from your authenticator app, or a recovery code."
    )
    assert expected in page.content.decode()
    assert (visitor.cookie, Session.objects.count()) == ("", count)


def test_limits_on_codes_hold(ann_has: Enrolled, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"code": (1, 300.0)}
    Visitor().sign_in(code=ann_has.device.wrong())
    page = Visitor().sign_in(code=ann_has.device.code())
    assert (page.status_code, page["Retry-After"]) == (429, "300")
