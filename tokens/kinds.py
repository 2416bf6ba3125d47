"""The table of everything that can happen to an account.

Each event becomes a line of the log and a count. The table says whether it also becomes a row of the owner's log and a
mail to the owner. An app adds its kinds with `add`, in a module that Django imports at the start.
"""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Notice:
    """A mail to the owner: its name, both in the setting NOTICES and of the template, and its subject."""

    name: str
    subject: str | Promise


class Kind(str):
    """A kind, by its name on the wire."""

    label: str | Promise = ""
    """What a person reads in the log."""

    row = True
    """Whether the owner's log keeps it."""

    notice: Notice | None = None

    hourly = False
    """Whether the events of one hour share a row with a count, for one session or else one user. So nobody can fill
    the table."""

    proof = False
    """Whether only the owner can cause it. Its address is then known to be one of the owner's."""


TABLE: dict[str, Kind] = {}


def add(
    name: str,
    label: str | Promise,
    *,
    row: bool = True,
    hourly: bool = False,
    notice: Notice | None = None,
    proof: bool = False,
) -> Kind:
    """Add a kind to the table. Raises ValueError if there is one of that name."""
    if name in TABLE:
        raise ValueError(f"The kind {name!r} already exists.")
    kind = TABLE[name] = Kind(name)
    kind.label, kind.row, kind.hourly, kind.notice, kind.proof = label, row, hourly, notice, proof
    return kind


def choices() -> list[tuple[str, str | Promise]]:
    """Return the kinds that the owner's log can hold, each with its label."""
    return [(kind, kind.label) for kind in TABLE.values() if kind.row]


def notices() -> dict[str, Notice]:
    """Return the notices of the table, by name."""
    return {kind.notice.name: kind.notice for kind in TABLE.values() if kind.notice}


def proofs() -> list[Kind]:
    """Return the kinds that only the owner can cause."""
    return [kind for kind in TABLE.values() if kind.proof]


NEW_SIGN_IN = Notice("new_sign_in", _("A sign-in from a new device"))
REUSE = Notice("token_reused", _("You were signed out for your safety"))

LOGIN = add("login", _("signed in"), notice=NEW_SIGN_IN, proof=True)
LOGIN_FAILED = add("login_failed", _("failed sign-in"), hourly=True)
LEGACY_EXCHANGED = add("legacy_exchanged", _("session carried over"), row=False)
REAUTHENTICATED = add("reauthenticated", _("identity confirmed"))
LOGOUT = add("logout", _("signed out"))
SESSION_REVOKED = add("session_revoked", _("session revoked"))
TOKEN_UNPROVEN = add("token_unproven", _("token used without its key"), hourly=True)
TOKEN_REUSED = add("token_reused", _("refresh token used twice"), notice=REUSE)
RETRIED_ELSEWHERE = add("retried_elsewhere", _("refresh repeated from another network"), hourly=True)
