"""A client that proves a key by DPoP. Tests can also make it send false proofs."""

import hashlib
from time import time
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from django.test.client import FakePayload
from rest_framework.test import APIClient

from tests.forgery import Sign, encode, forge


class Prover:
    """Holds a key, and proves it."""

    jwk: dict[str, str]

    def __init__(self, alg: str = "ES256") -> None:
        self.alg = alg
        self.sign: Sign = self._make_p256() if alg == "ES256" else self._make_ed25519()

    @property
    def jkt(self) -> str:
        """The thumbprint, computed as in RFC 7638."""
        members = ",".join(f'"{name}":"{value}"' for name, value in sorted(self.jwk.items()))
        return encode(hashlib.sha256(f"{{{members}}}".encode()).digest())

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a proof; a change of None leaves the member out."""
        return _changed({"typ": "dpop+jwt", "alg": self.alg, "jwk": self.jwk}, changes)

    def claims(self, method: str, url: str, token: str | None = None, **changes: Any) -> dict[str, Any]:
        """Return the claims of a proof; a change of None leaves the claim out."""
        claims = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(time())}
        if token is not None:
            claims["ath"] = encode(hashlib.sha256(token.encode()).digest())
        return _changed(claims, changes)

    def prove(self, method: str, url: str, token: str | None = None, **changes: Any) -> str:
        return forge(self.header(), self.claims(method, url, token, **changes), self.sign)

    def _make_p256(self) -> Sign:
        key = ec.generate_private_key(ec.SECP256R1())
        numbers = key.public_key().public_numbers()
        x, y = (encode(coordinate.to_bytes(32, "big")) for coordinate in (numbers.x, numbers.y))
        self.jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}

        def sign(message: bytes) -> bytes:
            pair = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
            return b"".join(number.to_bytes(32, "big") for number in pair)

        return sign

    def _make_ed25519(self) -> Sign:
        key = Ed25519PrivateKey.generate()
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().public_bytes_raw())}
        return key.sign


class ProvingClient(APIClient):
    """Proves the key with each request, and repeats it once if the server demands its newest nonce."""

    def __init__(self, prover: Prover, **defaults: Any) -> None:
        super().__init__(**defaults)
        self.prover, self.nonce = prover, ""

    def request(self, **environ: Any) -> Any:
        body = environ["wsgi.input"].read() if "wsgi.input" in environ else b""
        response = self._send(environ, body)
        errors = getattr(response, "data", None) or {}
        return (
            self._send(environ, body)
            if response.status_code == 401 and errors["code"] == "use_dpop_nonce"
            else response
        )

    def _send(self, environ: dict[str, Any], body: bytes) -> Any:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        url = f"http://testserver{quote(environ['PATH_INFO'])}"
        proof = self.prover.prove(environ["REQUEST_METHOD"], url, token or None, nonce=self.nonce or None)
        sent = {"HTTP_DPOP": proof, **environ, "wsgi.input": FakePayload(body)}
        if scheme == "Bearer":
            sent["HTTP_AUTHORIZATION"] = f"DPoP {token}"
        response = super().request(**sent)
        self.nonce = response.headers.get("DPoP-Nonce", self.nonce)
        return response


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}
