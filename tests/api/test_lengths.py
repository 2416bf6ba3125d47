"""Every text that a client sends has a maximum length, which is checked before the text is used."""

from collections.abc import Iterator
from io import StringIO
from time import thread_time
from typing import Any

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from rest_framework import serializers

import accounts.serializers
import accounts.views
import api.filters
import api.serializers
import api.sign_in_page
import tokens.serializers
from accounts.models import User
from accounts.validators import MaximumLengthValidator
from api.schema import schema
from tests.accounts.test_names import WORST
from tests.api.people import Person
from tests.clients import PASSWORD, App, Browser
from tokens.domain.signing_in import PASSWORD_LENGTH
from tokens.http.fields import TokenField

pytestmark = pytest.mark.django_db

MODULES = (tokens.serializers, accounts.serializers, api.serializers)
SECONDS = 2.0  # CPU time, so that other processes make no difference


def inputs() -> Iterator[tuple[str, serializers.CharField]]:
    """Yield the text fields of every serializer that reads input."""
    found = {value for module in MODULES for value in vars(module).values() if isinstance(value, type)}
    for serializer in sorted(found, key=lambda known: known.__qualname__):
        if not issubclass(serializer, serializers.Serializer) or not serializer.__module__.startswith(
            ("tokens", "accounts", "api")
        ):
            continue
        if issubclass(serializer, serializers.ModelSerializer) and not hasattr(serializer, "Meta"):
            continue
        if "Sliding" in serializer.__name__:
            continue  # which read no input
        for name, field in serializer().fields.items():
            if isinstance(field, serializers.CharField) and not field.read_only:
                yield f"{serializer.__qualname__}.{name}", field


def test_every_text_field_of_a_serializer_is_bounded() -> None:
    fields = dict(inputs())
    assert len(fields) > 20
    # A token is refused as such by its parser, which checks its length first.
    unbounded = {
        name for name, field in fields.items() if field.max_length is None and not isinstance(field, TokenField)
    }
    assert not unbounded


def test_every_text_field_of_a_form_is_bounded(rf: Any) -> None:
    form = api.sign_in_page.SignInForm(rf.get("/"))
    for name, field in form.fields.items():
        if isinstance(field, forms.CharField):
            assert field.max_length, name


TAKING = [
    (method, path) for path, methods in schema()["paths"].items() for method in methods if method in ("post", "patch")
]


@pytest.mark.parametrize(("method", "path"), TAKING)
def test_long_field_values_do_not_keep_the_server_busy(ann: Person, method: str, path: str) -> None:
    names = ("username", "email", "password", "currentPassword", "newPassword", "code", "challenge", "uid", "token")
    body = dict.fromkeys((*names, "refresh", "device", "deviceName"), WORST)
    started = thread_time()
    where = path.replace("{id}", str(ann.user.pk))
    response = ann.call(method, where, body)
    assert response.status_code < 500
    assert thread_time() - started < SECONDS


def test_nothing_else_does() -> None:
    """Input that no endpoint reads: the admin and its search, the forms of the API's pages, queries, commands."""
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    browser = Browser()
    browser.http.force_login(root)
    started = thread_time()
    long = WORST[99_000:101_000] + WORST[200_000:201_000]
    for path in ("/admin/accounts/user/", "/admin/latchkey/session/", "/admin/latchkey/securityevent/"):
        assert browser.http.get(path, {"q": long}).status_code == 200
    typed = {"username": WORST, "password": WORST, "code": WORST}
    assert browser.http.post("/api/sign-in", typed, format="multipart").status_code < 500
    assert browser.http.post("/admin/login/", typed, format="multipart").status_code < 500
    changed = {"old_password": PASSWORD, "new_password1": WORST, "new_password2": WORST}
    assert browser.http.post("/admin/password_change/", changed, format="multipart").status_code < 500
    with pytest.raises(CommandError):
        call_command("revoketokens", user=WORST, interactive=False, stdout=StringIO())
    with pytest.raises(CommandError):
        call_command("createsuperuser", username=WORST, email="x@example.com", interactive=False, stdout=StringIO())
    for field, value in (("username", WORST), ("email", f"{WORST}@example.com"), ("email", f"a@{WORST}.com")):
        with pytest.raises(ValidationError):
            User(**{"username": "bob", field: value}).full_clean(exclude={"password"})
    assert thread_time() - started < 5 * SECONDS


def test_password_too_long_for_a_login_is_refused_by_every_route() -> None:
    validator = MaximumLengthValidator()
    validator.validate("a" * PASSWORD_LENGTH)
    with pytest.raises(ValidationError, match="at most 4096 characters"):
        validator.validate("a" * (PASSWORD_LENGTH + 1))


@pytest.mark.parametrize("length", [PASSWORD_LENGTH, PASSWORD_LENGTH + 1])
def test_password_length_is_bounded_at_registration_and_login(length: int) -> None:
    password = ("x1-" * PASSWORD_LENGTH)[:length]
    status = Browser().post("/auth/register", {"username": "bob", "password": password}).status_code
    assert status == (201 if length == PASSWORD_LENGTH else 400)
    assert App().login("bob", password).status_code == (200 if length == PASSWORD_LENGTH else 400)
