"""WebAuthn's two ceremonies (Level 3, sections 7.1 and 7.2): registering a passkey, and using it.

The `webauthn` library verifies them. What it does not check is checked here: `crossOrigin`, the size of a credential id
and the strength of a key. An attestation statement is ignored. Nothing here knows of rows or requests.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cbor2
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import (
    decode_credential_public_key,
    parse_client_data_json,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.decoded_public_key_to_cryptography import decoded_public_key_to_cryptography
from webauthn.helpers.structs import CredentialDeviceType

from tokens.jose.compact import decode_strictly, encode

ALGORITHMS = (
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
"""-8, -7 and -257, in the order of preference."""

RSA_MIN_BITS = 2048

CREDENTIAL_ID_LENGTH = 1023
"""The most bytes (WebAuthn Level 3, section 4, "Credential ID")."""

TRANSPORTS = ("ble", "cable", "hybrid", "internal", "nfc", "smart-card", "usb")
"""The transports that a client may name; others are dropped."""

TIMEOUT = 300_000
"""Milliseconds that a browser may wait for the user: as long as a challenge is valid."""


class CeremonyRefused(Exception):
    """Something about the credential is wrong. The message is for tests, not for the client."""


@dataclass(frozen=True)
class RelyingParty:
    """The domain name that passkeys are bound to, and the origins of the pages and apps that may use them."""

    id: str
    name: str
    origins: Sequence[str]


@dataclass(frozen=True)
class NewCredential:
    """The result of a registration."""

    credential_id: bytes
    public_key: bytes
    """In COSE's form (RFC 9052)."""

    sign_count: int
    synced: bool
    """Backup eligibility: whether the passkey can be on several devices. It never changes."""

    backed_up: bool
    """Backup state: whether it is."""

    transports: list[str]


@dataclass(frozen=True)
class Assertion:
    """A verified assertion: its signature is valid."""

    sign_count: int
    user_verified: bool
    synced: bool
    backed_up: bool
    user_handle: bytes | None


def creation_options(
    party: RelyingParty, challenge: str, *, handle: bytes, name: str, known: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the options for `PublicKeyCredential.parseCreationOptionsFromJSON()`."""
    return {
        "rp": {"id": party.id, "name": party.name},
        "user": {"id": encode(handle), "name": name, "displayName": name},
        "challenge": encode(digest(challenge)),
        "pubKeyCredParams": [{"type": "public-key", "alg": int(algorithm)} for algorithm in ALGORITHMS],
        "timeout": TIMEOUT,
        "excludeCredentials": list(known),
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def request_options(
    party: RelyingParty,
    challenge: str,
    *,
    allowed: Iterable[Mapping[str, Any]] = (),
    verification: Literal["required", "discouraged"] = "required",
) -> dict[str, Any]:
    """Return the options for `PublicKeyCredential.parseRequestOptionsFromJSON()`."""
    return {
        "challenge": encode(digest(challenge)),
        "timeout": TIMEOUT,
        "rpId": party.id,
        "allowCredentials": list(allowed),
        "userVerification": verification,
    }


def descriptor(credential_id: bytes, transports: Sequence[str]) -> dict[str, Any]:
    """Return a known passkey as options name it."""
    return {"id": encode(credential_id), "type": "public-key", "transports": list(transports)}


def register(party: RelyingParty, challenge: str, credential: Mapping[str, Any]) -> NewCredential:
    """Verify a registration (section 7.1). User presence and user verification are required.

    Raises CeremonyRefused.
    """
    try:
        response = {**credential["response"]}
        _refuse_cross_origin(response["clientDataJSON"])
        # No attestation was asked for, so any that came is ignored, whatever its format.
        attestation = cbor2.loads(decode_strictly(response["attestationObject"]))
        bare = {"fmt": "none", "attStmt": {}, "authData": attestation["authData"]}
        response["attestationObject"] = encode(cbor2.dumps(bare))
        verified = verify_registration_response(
            credential={**credential, "response": response},
            expected_challenge=digest(challenge),
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=True,
            supported_pub_key_algs=list(ALGORITHMS),
        )
        _refuse_weak_key(verified.credential_public_key)
        transports = response.get("transports") or []
        known = [name for name in TRANSPORTS if name in transports]
    except CeremonyRefused:
        raise
    except Exception as error:  # (the library's parsers fail in many ways on a stranger's bytes)
        raise CeremonyRefused(str(error)) from error
    if len(verified.credential_id) > CREDENTIAL_ID_LENGTH:
        raise CeremonyRefused("The credential id is too long.")
    return NewCredential(
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        synced=verified.credential_device_type == CredentialDeviceType.MULTI_DEVICE,
        backed_up=verified.credential_backed_up,
        transports=known,
    )


def credential_id(credential: Mapping[str, Any]) -> bytes:
    """Return the id of the passkey that the credential claims to be from, unverified. Raises CeremonyRefused."""
    try:
        return decode_strictly(credential["rawId"])
    except (KeyError, TypeError, ValueError) as error:
        raise CeremonyRefused("There is no credential id.") from error


def use(party: RelyingParty, challenge: str, credential: Mapping[str, Any], public_key: bytes) -> Assertion:
    """Verify the use of a passkey (section 7.2), except the counter, which the caller takes with the challenge.

    User presence is required. The result says whether the user was verified. Raises CeremonyRefused.
    """
    try:
        _refuse_cross_origin(credential["response"]["clientDataJSON"])
        verified = verify_authentication_response(
            credential={**credential},
            expected_challenge=digest(challenge),
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=public_key,
            credential_current_sign_count=0,
        )
        handle = credential["response"].get("userHandle")
        handle = decode_strictly(handle) if handle is not None else None
    except CeremonyRefused:
        raise
    except Exception as error:  # (as above)
        raise CeremonyRefused(str(error)) from error
    return Assertion(
        sign_count=verified.new_sign_count,
        user_verified=verified.user_verified,
        synced=verified.credential_device_type == CredentialDeviceType.MULTI_DEVICE,
        backed_up=verified.credential_backed_up,
        user_handle=handle,
    )


def digest(challenge: str) -> bytes:
    """Return the challenge as the authenticator signs it."""
    return hashlib.sha256(challenge.encode()).digest()


def _refuse_cross_origin(client_data: str) -> None:
    # A page in another origin's frame could trick the user into a tap.
    if parse_client_data_json(decode_strictly(client_data)).cross_origin:
        raise CeremonyRefused("The ceremony took place in a frame of another origin.")


def _refuse_weak_key(public_key: bytes) -> None:
    key = decoded_public_key_to_cryptography(decode_credential_public_key(public_key))
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_MIN_BITS:
        raise CeremonyRefused(f"An RSA key needs {RSA_MIN_BITS} bits or more.")
