"""Where mailed links lead: to the server's own pages, or to a URL of the deployment's."""

import re
from urllib.parse import unquote

import pytest
from django.core import mail
from pytest_django import Settings

from accounts.mail import links, outbox
from accounts.models import MailKind, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann", "ann@example.com", "correct horse battery staple")


@pytest.mark.parametrize(
    ("kind", "setting", "link"),
    [
        (MailKind.RESET_PASSWORD, "PASSWORD_RESET_URL", links.reset_password),
        (MailKind.SET_PASSWORD, "PASSWORD_RESET_URL", links.reset_password),
        (MailKind.VERIFY_EMAIL, "EMAIL_VERIFICATION_URL", links.verify_email),
    ],
)
def test_mailed_link_leads_to_the_configured_url(
    settings: Settings, user: User, kind: MailKind, setting: str, link: links.Link
) -> None:
    setattr(settings, setting, "myapp://open/{uid}?token={token}&again={token}")
    outbox.queue(kind, user.email)
    outbox.deliver()
    (url,) = set(re.findall(r"myapp://[^\s\"]+", str(mail.outbox[0].body)))
    parts = re.fullmatch(r"myapp://open/([^?]+)\?token=([^&]+)&again=\2", url)
    assert parts
    assert link.open(unquote(parts[1]), unquote(parts[2])) == user


def test_inserted_values_are_percent_encoded(settings: Settings, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.PASSWORD_RESET_URL = "https://app.example.com/#{uid}/{token}"
    monkeypatch.setattr(links.reset_password, "make_token", lambda _: "a/b?c&d#e f%")
    assert links.reset_password.url(user).endswith("/a%2Fb%3Fc%26d%23e%20f%25")


def test_own_pages_are_the_default(user: User) -> None:
    assert links.reset_password.url(user).startswith("http://localhost:8000/reset-password#uid=")
    assert links.verify_email.url(user).startswith("http://localhost:8000/verify-email#uid=")
