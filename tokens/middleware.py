from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .http.proofs import HEADER
from .jose import dpop


class DPoPNonce:
    """Send each client that proves a key the nonce for its next proof, with any answer (RFC 9449, section 8.2).

    Without it, a client gets the nonce only when a refresh is refused because it has none. List it first, so the
    answers of other middleware carry the nonce too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        proof = request.META.get(HEADER)
        if proof is not None and (nonce := dpop.nonce_for(proof)):
            response["DPoP-Nonce"] = nonce
        return response
