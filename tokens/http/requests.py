"""Reads from a request who sent it, and from which site."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from ..conf import conf
from ..domain.client import UNKNOWN, Client
from ..models import USER_AGENT_LENGTH

logger = logging.getLogger(__name__)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def client_of(request: HttpRequest | Request | None) -> Client:
    """Return the sender's address and its user agent, shortened.

    The address is REMOTE_ADDR or, with TOKENS_TRUSTED_PROXIES = n, the n-th value from the right of X-Forwarded-For.
    Each proxy adds a value on the right, so a client can forge only those further left.
    """
    if request is None:
        return UNKNOWN
    meta = request.META  # read once, since DRF's request looks it up each time
    return Client(
        forwarded_address(meta, conf.trusted_proxies) or _address(meta.get("REMOTE_ADDR", "")),
        meta.get("HTTP_USER_AGENT", "").replace("\0", "")[:USER_AGENT_LENGTH],
    )


def forwarded_address(meta: Mapping[str, Any], proxies: int) -> str | None:
    """Return the client's address according to that many proxies; None if they give none."""
    forwarded = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
    return parse_address(forwarded[-proxies]) if 0 < proxies <= len(forwarded) else None


def _address(text: str) -> str | None:
    address = parse_address(text)
    if address is None:
        _warn_once()
    return address


@lru_cache(maxsize=1024)
def parse_address(entry: str) -> str | None:
    """Return the IP address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`, else None."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        address = ip_address(entry.partition("%")[0])
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 addresses as ::ffff:192.0.2.1. They would all count as one IPv6 network.
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=1)
def _warn_once() -> None:
    logger.warning(
        "REMOTE_ADDR has no address, so all clients share their limits. Make the server set it or, behind a proxy, "
        "take it from X-Forwarded-For."
    )


class CrossSiteRequest(PermissionDenied):
    default_detail = _("This request came from another site.")
    default_code = "cross_site_request"


def check_same_site(request: HttpRequest) -> None:
    """Refuse a request that another site made a browser send, with or without the cookie.

    SameSite=Strict withholds the cookie from requests of other sites, but not from other hosts of the same site. It
    doesn't stop a login that is forced on the browser either. Raises CrossSiteRequest.
    """
    if request.method in SAFE_METHODS:
        return
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        # Older browsers leave Origin out of some requests; clients other than browsers send neither header.
        if request.META.get("HTTP_SEC_FETCH_SITE", "").lower() in ("cross-site", "same-site"):
            raise CrossSiteRequest
    elif origin != f"{request.scheme}://{request.get_host()}" and origin not in conf.trusted_origins:
        raise CrossSiteRequest
