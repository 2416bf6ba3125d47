import logging
from math import ceil
from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import ScopedRateThrottle

from ..conf import conf
from ..domain.limits import network
from ..exceptions import TooManyTries
from .requests import client_of

logger = logging.getLogger(__name__)


class AddressThrottle(ScopedRateThrottle):
    """Limit the requests of one address, by the view's `throttle_scope`.

    This is against floods, not guesses. It counts in the cache, so only approximately, and lets all requests through
    while the cache can't be reached.
    """

    THROTTLE_RATES: Any = None

    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return super().allow_request(request, view)
        except Exception as error:  # noqa: BLE001 (each cache has errors of its own)
            logger.warning("The cache can't be reached, so rates per address are not counted: %s", type(error).__name__)
            return True

    def get_rate(self) -> str | None:
        return conf.throttle_rates[str(self.scope)] if conf.throttling else None

    def get_cache_key(self, request: Request, view: Any) -> str:
        ident = network(client_of(request).ip_address)
        return self.cache_format % {"scope": self.scope, "ident": ident}


def throttle(request: HttpRequest, scope: str) -> None:
    """Count a request for a page outside of DRF's views in its address's rate. Raises TooManyTries."""
    by_address = AddressThrottle()
    if not by_address.allow_request(Request(request), SimpleNamespace(throttle_scope=scope)):
        raise TooManyTries(ceil(by_address.wait() or 1))
