"""The metrics for Prometheus. Without METRICS_TOKEN there is no such path, and this module is not imported."""

import json
import logging
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, generate_latest
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
REFUSALS = Counter("latchkey_refusals", "Answers of 400 and above.", ["status", "code"], registry=registry)
SECONDS = Histogram(
    "latchkey_seconds",
    "How long a request took, from the first middleware to the last.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=registry,
)
OPERATIONS = {
    "latchkey:login": "login",
    "latchkey:obtain_pair": "login",
    "latchkey:refresh": "refresh",
    "latchkey:refresh_pair": "refresh",
}

# At 0, because Prometheus sees no increase in a series that begins with its first event.
for kind in TABLE:
    EVENTS.labels(kind)
for status, code in (("401", "token_reused"), ("429", "throttled"), ("500", "error"), ("503", "unavailable")):
    REFUSALS.labels(status, code)
for operation in OPERATIONS.values():
    SECONDS.labels(operation)


def keep(note: Callable[[], None]) -> None:
    """Count what was done. A count that can't be written must not fail the request."""
    try:
        note()
    except Exception as error:  # noqa: BLE001 (the folder of the counts may be gone, and then the library trips)
        logger.warning("A metric could not be counted: %r", error)


def count(counter: Counter, *labels: str) -> None:
    def note() -> None:
        (counter.labels(*labels) if labels else counter).inc()

    keep(note)


class Measuring:
    """Measures logins and refreshes, and counts refusals by their code, whichever middleware or view they come from."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = perf_counter()
        response = self.get_response(request)
        seconds = perf_counter() - began
        if request.resolver_match and (operation := OPERATIONS.get(request.resolver_match.view_name)):
            keep(lambda: SECONDS.labels(operation).observe(seconds))
        if response.status_code >= 400:
            keep(lambda: REFUSALS.labels(str(response.status_code), code_of(response)).inc())
        return response


def code_of(response: HttpResponse) -> str:
    """Return the code of a refusal; "invalid" for messages by field, and "page" for what a person reads."""
    if response["Content-Type"] != "application/json":
        return "page"
    body = json.loads(response.content)
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) else "invalid"


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
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # with per-process counters
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return HttpResponse(generate_latest(counted), content_type=CONTENT_TYPE_PLAIN_0_0_4)


urlpatterns = [path("metrics", MetricsView.as_view())]
