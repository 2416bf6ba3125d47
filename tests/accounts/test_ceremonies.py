"""WebAuthn's ceremonies: each falsification is refused (Level 3, sections 7.1 and 7.2)."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from accounts.factors import ceremonies
from accounts.factors.ceremonies import CeremonyRefused, NewCredential, RelyingParty
from tests.accounts.authenticator import ALGORITHMS, AT, BE, BS, EDDSA, ES256, RS256, UP, UV, Authenticator, b64, unb64

PARTY = RelyingParty("localhost", "Latchkey", ["http://localhost:8000", "android:apk-key-hash:abc"])
CHALLENGE = "a signed challenge"
HANDLE = bytes(range(32))


def creation(party: RelyingParty = PARTY) -> dict[str, Any]:
    return ceremonies.creation_options(party, CHALLENGE, handle=HANDLE, name="ann", known=[])


def request(party: RelyingParty = PARTY) -> dict[str, Any]:
    return ceremonies.request_options(party, CHALLENGE)


def registered(device: Authenticator, **how: Any) -> NewCredential:
    return ceremonies.register(PARTY, CHALLENGE, device.create(creation(), **how))


def test_creation_options_ask_for_a_discoverable_verified_credential() -> None:
    known = [ceremonies.descriptor(b"\x01\x02", ["usb"])]
    assert ceremonies.creation_options(PARTY, CHALLENGE, handle=HANDLE, name="ann", known=known) == {
        "rp": {"id": "localhost", "name": "Latchkey"},
        "user": {"id": b64(HANDLE), "name": "ann", "displayName": "ann"},
        "challenge": b64(hashlib.sha256(CHALLENGE.encode()).digest()),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in (-8, -7, -257)],
        "timeout": 300_000,
        "excludeCredentials": [{"id": "AQI", "type": "public-key", "transports": ["usb"]}],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def test_request_options_name_credentials_only_on_request() -> None:
    assert request() == {
        "challenge": b64(hashlib.sha256(CHALLENGE.encode()).digest()),
        "timeout": 300_000,
        "rpId": "localhost",
        "allowCredentials": [],
        "userVerification": "required",
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_passkey_of_each_algorithm_registers_and_is_used(algorithm: int) -> None:
    device = Authenticator(counts=True)
    credential = registered(device, algorithm=algorithm)
    assert credential.credential_id == device.passkeys[0].credential_id
    assert (credential.sign_count, credential.synced, credential.backed_up) == (0, True, True)
    assert credential.transports == ["hybrid", "internal"]

    answer = device.get(request())

    assert ceremonies.credential_id(answer) == credential.credential_id
    used = ceremonies.use(PARTY, CHALLENGE, answer, credential.public_key)
    assert (used.sign_count, used.user_verified, used.user_handle) == (1, True, HANDLE)
    assert (used.synced, used.backed_up) == (True, True)


@pytest.mark.parametrize(
    ("flags", "synced", "backed_up"),
    [(UP | UV, False, False), (UP | UV | BE, True, False), (UP | UV | BE | BS, True, True)],
)
def test_backup_flags_show_whether_a_passkey_is_synced(flags: int, synced: bool, backed_up: bool) -> None:
    credential = registered(Authenticator(flags=flags))
    assert (credential.synced, credential.backed_up) == (synced, backed_up)


@pytest.mark.parametrize("fmt", ["packed", "fido-u2f", "tpm", "apple", "android-key", "never-heard-of"])
def test_attestation_is_dropped_in_every_format(fmt: str) -> None:
    credential = registered(Authenticator(), attestation=lambda it: {**it, "fmt": fmt, "attStmt": {"sig": b"\0"}})
    assert credential.public_key


def test_app_signs_in_from_its_own_origin() -> None:
    device = Authenticator(origin="android:apk-key-hash:abc", cross_origin=None)
    credential = registered(device)
    assert ceremonies.use(PARTY, CHALLENGE, device.get(request()), credential.public_key).user_verified


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


CLIENT_DATA: dict[str, Callable[[dict[str, Any]], Any]] = {
    "type": lambda data: {**data, "type": "payment.get"},
    "other_type": lambda data: {
        **data,
        "type": "webauthn.get" if data["type"] == "webauthn.create" else "webauthn.create",
    },
    "challenge": lambda data: {**data, "challenge": b64(hashlib.sha256(b"another").digest())},
    "challenge_itself": lambda data: {**data, "challenge": b64(CHALLENGE.encode())},
    "origin": lambda data: {**data, "origin": "http://localhost:8001"},
    "origin_of_a_host_below": lambda data: {**data, "origin": "http://evil.localhost:8000"},
    "null_origin": lambda data: {**data, "origin": "null"},
    "cross_origin": lambda data: {**data, "crossOrigin": True},
    "no_type": lambda data: without(data, "type"),
    "no_challenge": lambda data: without(data, "challenge"),
    "no_origin": lambda data: without(data, "origin"),
    "no_object": lambda data: [data],
    "number": len,
}


@pytest.mark.parametrize("forgery", CLIENT_DATA)
def test_foreign_client_data_registers_nothing(forgery: str) -> None:
    answer = Authenticator().create(creation(), client_data=CLIENT_DATA[forgery])
    with pytest.raises(CeremonyRefused):
        ceremonies.register(PARTY, CHALLENGE, answer)


@pytest.mark.parametrize("forgery", CLIENT_DATA)
def test_foreign_client_data_is_refused_at_a_sign_in(forgery: str) -> None:
    device = Authenticator()
    credential = registered(device)
    answer = device.get(request(), client_data=CLIENT_DATA[forgery])
    with pytest.raises(CeremonyRefused):
        ceremonies.use(PARTY, CHALLENGE, answer, credential.public_key)


def flags(*, clear: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:32] + bytes([data[32] & ~clear]) + data[33:]


def credential_id_of(length: int) -> Callable[[bytes], bytes]:
    def forge(data: bytes) -> bytes:
        size = int.from_bytes(data[53:55], "big")
        return data[:53] + length.to_bytes(2, "big") + bytes(length) + data[55 + size :]

    return forge


AUTH_DATA: dict[str, Callable[[bytes], bytes]] = {
    "rp_id": lambda data: hashlib.sha256(b"elsewhere").digest() + data[32:],
    "user_not_present": flags(clear=UP),
    "backed_up_but_not_eligible": flags(clear=BE),
    "cut_off": lambda data: data[:36],
    "empty": lambda data: data[:0],
    "leftover": lambda data: data + b"\0",
}


@pytest.mark.parametrize("forgery", [*AUTH_DATA, "user_not_verified", "no_credential", "no_id", "long_id", "bad_key"])
def test_wrong_authenticator_data_registers_nothing(forgery: str) -> None:
    more: dict[str, Callable[[bytes], bytes]] = {
        **AUTH_DATA,
        "user_not_verified": flags(clear=UV),
        "no_credential": lambda data: flags(clear=AT)(data)[:37],
        "no_id": credential_id_of(0),
        "long_id": credential_id_of(1024),
        "bad_key": lambda data: (
            data[:55] + data[55:87] + cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})
        ),
    }
    answer = Authenticator().create(creation(), auth_data=more[forgery])
    if forgery in {"no_id", "long_id"}:
        data = cbor2.loads(unb64(answer["response"]["attestationObject"]))["authData"]
        answer["id"] = answer["rawId"] = b64(data[55 : 55 + int.from_bytes(data[53:55], "big")])
    with pytest.raises(CeremonyRefused):
        ceremonies.register(PARTY, CHALLENGE, answer)


@pytest.mark.parametrize("forgery", AUTH_DATA)
def test_wrong_authenticator_data_is_refused_at_a_sign_in(forgery: str) -> None:
    device = Authenticator()
    credential = registered(device)
    answer = device.get(request(), auth_data=AUTH_DATA[forgery])
    with pytest.raises(CeremonyRefused):
        ceremonies.use(PARTY, CHALLENGE, answer, credential.public_key)


def test_missing_user_verification_is_reported() -> None:
    device = Authenticator()
    credential = registered(device)
    device.flags &= ~UV
    assert not ceremonies.use(PARTY, CHALLENGE, device.get(request()), credential.public_key).user_verified


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
@pytest.mark.parametrize(
    "forge", [lambda it: it[:-1] + bytes([it[-1] ^ 1]), lambda it: it[:0], lambda it: bytes(len(it))]
)
def test_wrong_signature_is_refused(algorithm: int, forge: Callable[[bytes], bytes]) -> None:
    device = Authenticator()
    credential = registered(device, algorithm=algorithm)
    answer = device.get(request(), signature=forge)
    with pytest.raises(CeremonyRefused):
        ceremonies.use(PARTY, CHALLENGE, answer, credential.public_key)


def test_signature_of_another_passkey_is_refused() -> None:
    device, thief = Authenticator(), Authenticator()
    credential = registered(device)
    registered(thief)
    with pytest.raises(CeremonyRefused):
        ceremonies.use(PARTY, CHALLENGE, thief.get(request()), credential.public_key)


def test_algorithm_not_offered_registers_nothing() -> None:
    with pytest.raises(CeremonyRefused):
        registered(Authenticator(), algorithm=-47)  # ES256K


def test_weak_rsa_key_registers_nothing() -> None:
    with pytest.raises(CeremonyRefused, match="2048 bits"):
        registered(Authenticator(), algorithm=RS256, rsa_bits=1024)


def test_missing_user_handle_is_read_as_none() -> None:
    device = Authenticator()
    credential = registered(device)
    answer = device.get(request(), user_handle=lambda _: None)
    assert ceremonies.use(PARTY, CHALLENGE, answer, credential.public_key).user_handle is None


NESTED: Any = {"a": 1}
for _ in range(50):
    NESTED = {"a": NESTED}

BROKEN: list[Any] = [
    {},
    {"id": 1},
    {"response": None},
    {"rawId": None, "response": {}},
    {"id": "AQ", "rawId": "AQ", "type": "password", "response": {}},
    {"id": "AQ", "rawId": "AQ=", "type": "public-key", "response": {"clientDataJSON": "é"}},
    {"id": "AQ", "rawId": "AQ", "type": "public-key", "response": {"clientDataJSON": "AQ", "attestationObject": "AQ"}},
    {"id": "AQ", "rawId": "AQ", "type": "public-key", "response": NESTED},
    {
        "id": "AQ",
        "rawId": "AQ",
        "type": "public-key",
        "response": {"clientDataJSON": b64(json.dumps({}).encode()), "attestationObject": b64(b"\x9f" * 2000)},
    },
]


@pytest.mark.parametrize("credential", BROKEN)
def test_broken_credential_is_refused(credential: Any) -> None:
    with pytest.raises(CeremonyRefused):
        ceremonies.register(PARTY, CHALLENGE, credential)
    with pytest.raises(CeremonyRefused):
        ceremonies.use(PARTY, CHALLENGE, credential, b"")


@pytest.mark.parametrize(
    "credential", [{}, {"rawId": None}, {"rawId": 1}, {"rawId": "A"}, {"rawId": "AQ=="}, {"rawId": "é"}]
)
def test_credential_without_an_id_is_refused(credential: Any) -> None:
    with pytest.raises(CeremonyRefused):
        ceremonies.credential_id(credential)
