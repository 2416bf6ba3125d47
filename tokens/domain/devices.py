"""What a device is called, for a person."""

import ua_parser
from django.utils.translation import gettext as _

from ..models import Session

FAMILIAR = {"Mac OS X": "macOS"}
"""Names that are known better by another."""


def name(session: Session) -> str:
    """Return what the session's client called itself, or else what its user agent tells."""
    return session.device_name or describe(session.user_agent)


def describe(user_agent: str) -> str:
    """Return something like "Firefox on Linux", as much of it as the user agent tells."""
    # The parser keeps what it found out about the last 2,000.
    found = (ua_parser.parse_user_agent(user_agent), ua_parser.parse_os(user_agent))
    names = [FAMILIAR.get(part.family, part.family) for part in found if part]
    if len(names) == len(found):
        return _("%(browser)s on %(system)s") % {"browser": names[0], "system": names[1]}
    return names[0] if names else _("Unknown device")
