"""Which refresh tokens are good: the table of docs/model.md, over a session's row.

The row decides; nothing here reads or writes it. `sessions` carries the decision out, by one UPDATE that names the
state that was decided on.
"""

from datetime import datetime, timedelta
from enum import Enum, auto

from ..conf import conf
from ..models import Session
from ..times import CLOCK_SKEW

LATE_RETRIES = 3
"""How often one token can be retried late. Each late retry arms a grace period, and a thief must not be able to keep it
armed by polling."""


class Step(Enum):
    """What becomes of a refresh token that is presented."""

    GIVE_AGAIN = auto()
    GIVE_BACK = auto()
    ROTATE = auto()
    RETRY_LATE = auto()
    END = auto()


def decide(session: Session, generation: int, now: datetime, *, raced: bool = False) -> Step:
    """Return what becomes of the refresh token of that generation.

    `raced` means that another request has changed the row since the token came.
    """
    grace, age = conf.grace_period, _age(session, now)
    if generation == session.generation:
        # The token from a login is rotated at its first use, however young.
        return Step.GIVE_BACK if generation > 0 and age < grace else Step.ROTATE
    if generation == session.predecessor and not session.exposed:
        if grace and age <= grace:
            return Step.GIVE_AGAIN
        # Without a grace period, parallel use is reuse: the loser of the race is not a late retry.
        late = conf.late_retry and not session.confirmed and (grace or not raced)
        if late and session.generation - session.predecessor <= LATE_RETRIES:
            return Step.RETRY_LATE
    return Step.END


def given_up(session: Session, generation: int) -> bool:
    """Return whether a late retry gave up the tokens of that generation."""
    return session.predecessor < generation < session.generation


def _age(session: Session, now: datetime) -> timedelta:
    """Return how long ago the session was rotated. The clock of the server that did it may be ahead of ours."""
    ahead = session.rotated_at - now
    # A clock further ahead than that was wrong, and no grace period is that long.
    return timedelta.max if ahead > CLOCK_SKEW else max(-ahead, timedelta())
