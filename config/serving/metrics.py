"""What a Prometheus server reads; without METRICS_TOKEN there is no such path, and nobody imports this."""

import logging
import os
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.http import HttpResponse
from django.urls import path
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request

from tokens.authentication import Service
from tokens.exceptions import TokenNotValid
from tokens.http.refusals import Refused
from tokens.kinds import TABLE
from tokens.models import SecurityEvent
from tokens.signals import event_committed, session_rotated
from tokens.views import AlwaysJSON, TokenView

logger = logging.getLogger(__name__)

registry = CollectorRegistry()
EVENTS = Counter("latchkey_security_events", "Lines of the security log.", ["kind"], registry=registry)
ROTATIONS = Counter("latchkey_rotations", "Refresh tokens exchanged for new ones.", registry=registry)

for kind in TABLE:
    EVENTS.labels(kind)  # at 0: Prometheus sees no increase in a series that begins with its first event


def count(counter: Counter, *labels: str) -> None:
    """Count one more. What was done has been done, so a count that can't be kept is no error of the request."""
    try:
        (counter.labels(*labels) if labels else counter).inc()
    except Exception as error:  # noqa: BLE001 (the folder of the counts may be gone, and then the library trips)
        logger.warning("A count was lost: %r", error)


@receiver(event_committed)
def count_event(event: SecurityEvent, **kwargs: Any) -> None:
    count(EVENTS, event.kind)


@receiver(session_rotated)
def count_rotation(**kwargs: Any) -> None:
    count(ROTATIONS)


class ScraperAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Service, None] | None:
        """Return the scraper; None if the header holds no bearer's token. Raises Refused."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if not constant_time_compare(token.strip(), settings.METRICS_TOKEN):
            raise Refused(TokenNotValid())
        return Service("metrics"), None


class MetricsView(TokenView):
    authentication_classes = (ScraperAuthentication,)
    permission_classes = (IsAuthenticated,)
    throttle_classes = ()
    content_negotiation_class = AlwaysJSON  # for its errors

    def get(self, request: Request) -> HttpResponse:
        counted = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # where each process counts for itself
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return HttpResponse(generate_latest(counted), content_type=CONTENT_TYPE_PLAIN_0_0_4)


urlpatterns = [path("metrics", MetricsView.as_view())]
