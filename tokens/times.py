"""The clock of this app: every point in time here is aware, and in UTC, whatever USE_TZ and TIME_ZONE say.

With USE_TZ off, Django's own are local times without a zone, and in the night in which clocks are put back each of an
hour's stands for two. `models.UTCDateTimeField` stores them.
"""

from datetime import UTC, datetime, timedelta

CLOCK_SKEW = timedelta(minutes=1)
"""How far apart the clocks of two servers may be."""


def now() -> datetime:
    return datetime.now(UTC)
