"""The proof of a key that came with a request (RFC 9449), in the form that the domain asks for."""

from contextlib import suppress
from urllib.parse import urlsplit

from django.http import HttpRequest
from rest_framework.request import Request

from ..conf import conf
from ..domain.sessions import Prove
from ..exceptions import KeyMismatch, ProofRequired
from ..jose import dpop
from ..jose.dpop import Proof, Target

HEADER = "HTTP_DPOP"

SENT_PATH = "latchkey.sent_path"
"""Where a middleware that changes a request's path keeps, in its META, the one that was sent."""


def proven_key(request: HttpRequest | Request | None) -> str:
    """Return the thumbprint of the key that a request without a token proves; empty if it proves none.

    Raises ProofNotValid or NonceRequired.
    """
    return _verify(request).jkt if request and HEADER in request.META and conf.dpop != "off" else ""


def key_for_session(request: HttpRequest | Request | None) -> str:
    """Return the same for a session that begins with this request. Also raises ProofRequired."""
    jkt = proven_key(request)
    if conf.dpop == "required" and not jkt:
        raise ProofRequired
    return jkt


def with_refresh_token(request: HttpRequest | Request | None) -> Prove:
    """Return the function that checks the key of a session whose refresh token is in the request.

    A nonce is required, since this proof names no token and could be made in advance. The proof may be used again: the
    session's row decides about a repeated refresh.
    """

    def prove(jkt: str) -> None:
        _check(request, jkt, nonce_required=True)

    return prove


def with_access_token(request: HttpRequest | Request, token: str) -> Prove:
    """Return the function that checks the key of a session whose access token is in the request. A proof works once."""
    proven = False

    def prove(jkt: str) -> None:
        nonlocal proven
        if not proven:
            dpop.spend(_check(request, jkt, access_token=token))
            proven = True

    return prove


def targets_of(request: HttpRequest) -> list[Target]:
    """Return the URLs by which a client may have meant this request."""
    path = request.META.get(SENT_PATH, request.path)
    targets = []
    with suppress(ValueError):  # Django lets a Host with an impossible port through
        targets.append(Target(dpop.origin_of(f"{request.scheme}://{request.get_host()}"), path))
    if public_url := conf.public_url:
        prefix = urlsplit(public_url).path.rstrip("/")
        below = path if path.startswith(f"{prefix}/") else prefix + path
        targets.append(Target(dpop.origin_of(public_url), below))
    return targets


def _verify(request: HttpRequest | Request, *, access_token: str | None = None, nonce_required: bool = False) -> Proof:
    sent = request._request if isinstance(request, Request) else request  # reading through DRF's costs more
    return dpop.verify(
        sent.META[HEADER],
        str(sent.method),
        targets_of(sent),
        access_token=access_token,
        nonce_required=nonce_required,
    )


def _check(
    request: HttpRequest | Request | None, jkt: str, *, access_token: str | None = None, nonce_required: bool = False
) -> Proof:
    """Return the proof if it is valid and of that key. Raises ProofRefused."""
    if request is None or HEADER not in request.META:
        raise ProofRequired
    proof = _verify(request, access_token=access_token, nonce_required=nonce_required)
    if proof.jkt != jkt:
        raise KeyMismatch
    return proof
