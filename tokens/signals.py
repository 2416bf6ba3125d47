"""The signals of this app. The sender is the class Session, unless it says otherwise.

Receivers run inside the transaction of the change, so what they write is kept exactly if the change is.
"""

from django.dispatch import Signal

session_started = Signal()
"""Arguments: `session`, `client`, `evicted` (the sessions that the cap ended for it; `sessions_revoked` was sent for
them), `succeeds` (the session that it replaces after a password change, without a sign-in; else None)."""

session_reauthenticated = Signal()
"""Arguments: `session`, `client`: the user has given the password again."""

session_rotated = Signal()
"""Arguments: `session`, `client`. Sent after the row was updated, outside any transaction."""

sessions_revoked = Signal()
"""Arguments: `sessions` (a list), `reason` (a `Reason`), `client`."""

event_announced = Signal()
"""Argument: `event`, a `SecurityEvent`. The sender is that class. Sent in the transaction of the event."""

event_committed = Signal()
"""Argument: `event`. The sender is `SecurityEvent`. Sent beside the line of the log, once that is committed."""

token_reused = Signal()
"""Arguments: `session`, `client`: a superseded token was presented. Sent after the revocation was committed."""
