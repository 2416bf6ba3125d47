"""Composes mails at the time of sending."""

from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from tokens.domain import devices, limits
from tokens.kinds import LOGIN, NEW_SIGN_IN, REUSE, notices
from tokens.models import SecurityEvent, Session

from .. import names
from ..models import Mail, MailKind, User
from . import links


def spend(kind: str, address: str) -> None:
    """Count a mail of that kind to that address. Raises TooManyTries.

    Counted by kind, so a stranger who asks for resets can't block other mails to the owner.
    """
    limits.spend("mail", kind, names.key(address))


def compose(mail: Mail) -> EmailMultiAlternatives | None:
    """Return the mail, with a link made now; None if its user or its reason is gone."""
    if mail.kind in MailKind:
        return _with_link(mail)
    if mail.kind in (NEW_SIGN_IN.name, REUSE.name):
        return _about_session(mail)
    return _message(mail, mail.address)


def _with_link(mail: Mail) -> EmailMultiAlternatives | None:
    user = User.objects.filter(email_key=names.key(mail.address), is_active=True).first()
    if user is None:
        return None
    match mail.kind:
        case MailKind.VERIFY_EMAIL if not user.email_verified:
            link = links.verify_email.url(user)
        case MailKind.ALREADY_REGISTERED:
            link = f"{settings.PUBLIC_URL}/#forgot"
        case MailKind.RESET_PASSWORD if user.has_usable_password():
            link = links.reset_password.url(user)
        case MailKind.SET_PASSWORD:
            # Staff asked for this mail, so it also goes to a user who never had a password.
            link = links.reset_password.url(user)
        case _:
            return None
    # To the stored address: the typed one may be another mailbox.
    return _message(mail, user.email, link=link)


def _about_session(mail: Mail) -> EmailMultiAlternatives | None:
    session: Session | None = Session.objects.filter(pk=cast(Any, mail.session)).first()
    if session is None or (mail.kind == NEW_SIGN_IN.name and not _is_from_new_device(session)):
        return None
    device, ip_address = devices.describe(session.user_agent), session.ip_address or _("an unknown address")
    return _message(mail, mail.address, device=device, ip_address=ip_address)


def _is_from_new_device(session: Session) -> bool:
    """Return whether the user has signed in before, but not from a device like this one."""
    before = SecurityEvent.objects.filter(user_id=session.user_id, kind=LOGIN, created_at__lt=session.created_at)
    agents = set(before.order_by().values_list("user_agent", flat=True).distinct()[:200])
    return bool(agents) and devices.likeness(session.user_agent) not in map(devices.likeness, agents)


def _source(mail: Mail) -> str:
    """Return a sentence about the device and address of the change; empty if a command made it."""
    if not mail.ip_address:
        return ""
    known = {"device": devices.describe(mail.user_agent), "ip_address": mail.ip_address}
    return _("Device: %(device)s, from %(ip_address)s.") % known


def _message(mail: Mail, address: str, **context: Any) -> EmailMultiAlternatives:
    context |= {"site": urlsplit(settings.PUBLIC_URL).netloc, "at": mail.created_at, "source": _source(mail)}
    text, html = (render_to_string(f"accounts/mail/{mail.kind}.{form}", context) for form in ("txt", "html"))
    message = EmailMultiAlternatives(
        subject=_subject(mail.kind),
        body=text,
        to=[names.mailbox(address)],
        headers={"Auto-Submitted": "auto-generated"},  # prevents automatic replies (RFC 3834)
    )
    message.attach_alternative(html, "text/html")
    return message


def _subject(kind: str) -> str:
    return str(MailKind(kind).label if kind in MailKind else notices()[kind].subject)
