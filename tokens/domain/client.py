"""The client of a request, as plain values: the domain never sees a request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """What is known about a client."""

    ip_address: str | None = None
    user_agent: str = ""


UNKNOWN = Client()
