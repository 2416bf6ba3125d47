"""What this app announces. The sender is the class Session, unless it says otherwise.

A receiver runs inside the transaction of what it hears of, so that a log and the fact that it logs are never apart.
"""

from django.dispatch import Signal

session_started = Signal()
"""Arguments: `session`, `client`, `evicted` (the sessions that made room for it; `sessions_revoked` told of them),
`succeeds` (the session in whose place it goes on after a change of the password, where nobody signed in; else None)."""

session_reauthenticated = Signal()
"""Arguments: `session`, `client`: its user has given the password again."""

session_rotated = Signal()
"""Arguments: `session`, `client`. Sent after the row was updated, outside any transaction."""

sessions_revoked = Signal()
"""Arguments: `sessions` (a list), `reason` (a `Reason`), `client`."""

event_announced = Signal()
"""Argument: `event`, a `SecurityEvent`. The sender is that class. Sent in the transaction of what happened."""

event_committed = Signal()
"""Argument: `event`. The sender is `SecurityEvent`. Sent beside the line of the log, once that is committed."""

token_reused = Signal()
"""Arguments: `session`, `client`: a superseded token came back. Sent after the revocation was committed."""
