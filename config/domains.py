"""The defaults for the domain and the origins that passkeys are bound to."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit


def passkey_domain(public_url: str) -> str:
    """Return the host of the URL; empty if it is an IP address, which can't be an RP ID (WebAuthn, section 5.1.2)."""
    host = urlsplit(public_url).hostname or ""
    return "" if is_address(host) else host


def passkey_origins(domain: str, public_url: str, trusted_origins: Sequence[str]) -> list[str]:
    """Return the origin of the URL, and the trusted origins whose host is the domain or a subdomain."""
    parts = urlsplit(public_url)
    origins = [f"{parts.scheme}://{parts.netloc}", *trusted_origins]
    return [origin for origin in dict.fromkeys(origins) if is_within(domain, origin)]


def is_within(domain: str, origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    return host == domain or host.endswith(f".{domain}")


def is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
