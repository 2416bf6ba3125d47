"""A software authenticator: it creates passkeys and signs with them, correctly or, if a test asks for it, wrongly."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

EDDSA, ES256, RS256 = -8, -7, -257
ALGORITHMS = (EDDSA, ES256, RS256)

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
"""The flags of authenticator data (WebAuthn Level 3, section 6.1)."""

Key = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
Forgery = Callable[[Any], Any]


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Passkey:
    key: Key
    algorithm: int
    rp_id: str
    credential_id: bytes = field(default_factory=lambda: token_bytes(32))
    user_handle: bytes = b""
    sign_count: int = 0


@dataclass
class Authenticator:
    """One device. It sets `flags` each time; `counts` says whether its counter grows."""

    origin: str = "http://localhost:8000"
    flags: int = UP | UV | BE | BS
    counts: bool = False
    cross_origin: bool | None = False
    passkeys: list[Passkey] = field(default_factory=list)

    def create(
        self,
        options: dict[str, Any],
        *,
        algorithm: int = ES256,
        client_data: Forgery = lambda data: data,
        auth_data: Forgery = lambda data: data,
        attestation: Forgery = lambda data: data,
        rsa_bits: int = 2048,
    ) -> dict[str, Any]:
        """Answer creation options with a credential, as `credential.toJSON()` gives it."""
        passkey = Passkey(_new_key(algorithm, rsa_bits), algorithm, options["rp"]["id"])
        passkey.user_handle = unb64(options["user"]["id"])
        self.passkeys.append(passkey)
        cose = cbor2.dumps(_cose(passkey))
        attested = bytes(16) + len(passkey.credential_id).to_bytes(2, "big") + passkey.credential_id + cose
        data = auth_data(self._auth_data(passkey, AT) + attested)
        client_bytes = self._client_data("webauthn.create", options["challenge"], client_data)
        statement = attestation({"fmt": "none", "attStmt": {}, "authData": data})
        return {
            "id": b64(passkey.credential_id),
            "rawId": b64(passkey.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64(client_bytes),
                "attestationObject": b64(cbor2.dumps(statement)),
                "transports": ["internal", "hybrid"],
            },
        }

    def get(
        self,
        options: dict[str, Any],
        *,
        passkey: Passkey | None = None,
        client_data: Forgery = lambda data: data,
        auth_data: Forgery = lambda data: data,
        signature: Forgery = lambda data: data,
        user_handle: Forgery = lambda data: data,
    ) -> dict[str, Any]:
        """Answer request options with an assertion, as `credential.toJSON()` gives it."""
        allowed = {descriptor["id"] for descriptor in options.get("allowCredentials", [])}
        known = [one for one in self.passkeys if not allowed or b64(one.credential_id) in allowed]
        passkey = passkey or known[0]
        if self.counts:
            passkey.sign_count += 1
        data = auth_data(self._auth_data(passkey, 0))
        client_bytes = self._client_data("webauthn.get", options["challenge"], client_data)
        signed = _sign(passkey, data + hashlib.sha256(client_bytes).digest())
        handle = user_handle(b64(passkey.user_handle))
        return {
            "id": b64(passkey.credential_id),
            "rawId": b64(passkey.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64(client_bytes),
                "authenticatorData": b64(data),
                "signature": b64(signature(signed)),
                **({"userHandle": handle} if handle is not None else {}),
            },
        }

    def _auth_data(self, passkey: Passkey, flags: int) -> bytes:
        rp_id_hash = hashlib.sha256(passkey.rp_id.encode()).digest()
        return rp_id_hash + bytes([self.flags | flags]) + passkey.sign_count.to_bytes(4, "big")

    def _client_data(self, kind: str, challenge: str, forge: Forgery) -> bytes:
        data: dict[str, Any] = {"type": kind, "challenge": challenge, "origin": self.origin}
        if self.cross_origin is not None:
            data["crossOrigin"] = self.cross_origin
        return json.dumps(forge(data)).encode()


def _new_key(algorithm: int, rsa_bits: int) -> Key:
    match algorithm:
        case -8:
            return Ed25519PrivateKey.generate()
        case -257:
            return generate_rsa_key(65537, rsa_bits)
    return generate_private_key(SECP256R1())


def _cose(passkey: Passkey) -> dict[int, Any]:
    """Return the public key in COSE's form (RFC 9053, section 7; RFC 8230, section 4)."""
    match passkey.key:
        case Ed25519PrivateKey() as ed:
            return {1: 1, 3: passkey.algorithm, -1: 6, -2: ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)}
        case EllipticCurvePrivateKey() as ec:
            numbers = ec.public_key().public_numbers()
            x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
            return {1: 2, 3: passkey.algorithm, -1: 1, -2: x, -3: y}
        case RSAPrivateKey() as rsa:
            public = rsa.public_key().public_numbers()
            size = (public.n.bit_length() + 7) // 8
            return {1: 3, 3: passkey.algorithm, -1: public.n.to_bytes(size, "big"), -2: public.e.to_bytes(3, "big")}


def _sign(passkey: Passkey, data: bytes) -> bytes:
    match passkey.key:
        case Ed25519PrivateKey() as ed:
            return ed.sign(data)
        case EllipticCurvePrivateKey() as ec:
            return ec.sign(data, ECDSA(SHA256()))
        case RSAPrivateKey() as rsa:
            return rsa.sign(data, PKCS1v15(), SHA256())
