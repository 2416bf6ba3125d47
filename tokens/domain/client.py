"""Who asks, as plain values: the domain never sees a request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """What is known of a client; what is not known is left out."""

    ip_address: str | None = None
    user_agent: str = ""


UNKNOWN = Client()
