"""The clock of this app. All its times are aware and in UTC, whatever USE_TZ and TIME_ZONE say.

With USE_TZ off, Django's times are local and without a zone. In the night when clocks go back, each time of one hour
stands for two. `models.UTCDateTimeField` stores them.
"""

from datetime import UTC, datetime, timedelta

CLOCK_SKEW = timedelta(minutes=1)
"""How far apart the clocks of two servers may be."""


def now() -> datetime:
    return datetime.now(UTC)
