"""What is counted for Prometheus. Logging is set up with this, before there are any models."""

import logging

from prometheus_client import CollectorRegistry, Counter

logger = logging.getLogger(__name__)

registry = CollectorRegistry()
EVENTS = Counter("latchkey_security_events", "Lines of the security log.", ["kind"], registry=registry)
ROTATIONS = Counter("latchkey_rotations", "Refresh tokens exchanged for new ones.", registry=registry)


def count(counter: Counter, *labels: str) -> None:
    """Whoever is served has been served: a count that can't be kept is no error of the request."""
    try:
        (counter.labels(*labels) if labels else counter).inc()
    except Exception as error:  # noqa: BLE001 (the folder of the counts may be gone, and then the library trips)
        logger.warning("A count was lost: %r", error)


class EventCounter(logging.Handler):
    """Counts the lines of the logger `latchkey.security`, which are written once their facts are committed."""

    def emit(self, record: logging.LogRecord) -> None:
        if event := getattr(record, "event", None):
            count(EVENTS, event)
