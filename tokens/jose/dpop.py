"""The proof that a caller holds a key: DPoP (RFC 9449).

The client signs the method, URL and time of each call with a key that never leaves it. So a token that is bound to the
key is useless to others. A proof brings its own public key, of which only the thumbprint is trusted. The parser of
tokens still refuses such a header.
"""

import hashlib
import hmac
import os
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import lru_cache
from math import ceil
from mmap import mmap
from secrets import token_bytes
from struct import Struct
from tempfile import TemporaryFile
from threading import Lock
from time import time
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from jwt.algorithms import get_default_algorithms

from ..exceptions import NonceRequired, ProofNotValid, ReplayStoreUnreachable
from . import compact, keys

try:
    import fcntl
except ImportError:  # on Windows, where no process forks, so each has its own table
    HAS_FORKS = False
else:
    HAS_FORKS = True

ALGORITHMS = ("ES256", "EdDSA", "Ed25519")
"""The algorithms of proofs. The last two are names of the same one (RFC 9864, section 2.2)."""

TYPE = "dpop+jwt"

MAX_LENGTH = 4096
"""The most bytes of a proof."""

MAX_JTI_LENGTH = 128
"""Characters."""

MAX_AGE = 60
"""The oldest age of a proof without a nonce, in seconds."""

MAX_AHEAD = 5
"""Seconds by which the clock of the client may be ahead."""

NONCE_MINUTES = 3
"""A nonce is good in its minute and this many minutes after."""

CLOCK_SKEW = 60
"""Seconds that a used proof is remembered after it expires, since another server's clock may be behind."""

REMEMBERED = 2000
"""Headers of proofs that each process keeps with their keys. A client writes the same one each time."""

PLACES = 2**18
"""Used proofs that a server remembers without a shared cache, in 4 MB."""

# Private members of a key, or of a shared secret (RFC 7518, section 6; RFC 8037, section 2).
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

DEFAULT_PORTS = {"http": 80, "https": 443}

# If the key is a point of small order, anybody can make a signature that fits every message.
_P = 2**255 - 19
_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER = {0, 1, _P - 1, _OF_ORDER_8, _P - _OF_ORDER_8}
"""The y-coordinates of these points of edwards25519."""

_algorithms = get_default_algorithms()


class Target(NamedTuple):
    """The target of a call, in a form to compare."""

    origin: str
    path: str
    """Percent-decoded."""


class Proof(NamedTuple):
    """A proof that is valid for a call."""

    jkt: str
    """The thumbprint of its key (RFC 7638)."""
    jti: str
    method: str
    target: Target
    expires_at: int
    """The second at which it expires."""


@lru_cache(maxsize=64)
def origin_of(url: str) -> str:
    """Return the scheme and host in lower case, with the port if it is not the scheme's default.

    Raises ValueError for text that is no URL, and for a URL with a user name, which can look like a host.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or not parts.hostname:
        raise ValueError("not a URL of a host alone")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def verify(
    text: str,
    method: str,
    targets: Collection[Target],
    *,
    access_token: str | None = None,
    nonce_required: bool = False,
) -> Proof:
    """Return the proof if it is valid for this call to one of the targets (RFC 9449, section 4.3).

    The caller checks whether the key is the right one, and then calls `spend`. Raises ProofNotValid, or NonceRequired
    if only the time is wrong.
    """
    try:
        jkt, claims = _verify_signature(text)
        target = _target(claims.get("htu"))
    except (ValueError, RecursionError) as error:
        raise ProofNotValid from error
    jti, nonce = claims.get("jti"), claims.get("nonce", "")
    if not (
        isinstance(jti, str)
        and 1 <= len(jti) <= MAX_JTI_LENGTH
        and claims.get("htm") == method
        and target in targets
        and type(claims.get("iat")) is int
        and isinstance(nonce, str)
        and (access_token is None or claims.get("ath") == _hash(access_token))
    ):
        raise ProofNotValid
    return Proof(jkt, jti, method, target, _expiry(claims, nonce_required))


def spend(proof: Proof) -> None:
    """Use a proof up, after every other check has passed. Of any number of calls with one proof, one succeeds.

    This is exact across all processes and servers that share a cache. If each process has a cache of its own, it holds
    within one server that loads the app before it forks, or else within one process; a new entry may then displace an
    older proof. Raises ProofNotValid and ReplayStoreUnreachable.
    """
    used = ascii((proof.jkt, proof.method, *proof.target, proof.jti)).encode()
    forgotten_at = proof.expires_at + CLOCK_SKEW
    cache = caches[DEFAULT_CACHE_ALIAS]
    if isinstance(cache, LocMemCache | DummyCache):
        # The first drops random entries once it holds a few hundred; the second drops all.
        is_first = _used.add(used, forgotten_at)
    else:
        key = f"latchkey.dpop.{hashlib.sha256(used).hexdigest()}"
        try:
            is_first = cache.add(key, 1, ceil(forgotten_at - time()))
        except Exception as error:  # each cache raises errors of its own
            raise ReplayStoreUnreachable from error
    if not is_first:
        raise ProofNotValid


def newest_nonce() -> str:
    """Return the nonce of this minute. It is no secret: it only shows when a proof was made."""
    return _nonce(keys.secrets_for("dpop nonce")[0], _minute())


def nonce_for(text: str) -> str | None:
    """Return the newest nonce, unless the proof, which may be any text, was made with it; then None."""
    newest = newest_nonce()
    try:
        claims = compact.decode(compact.check(text, MAX_LENGTH).split(".")[1])
    except ValueError:
        return newest
    # Looked for as text, since parsing costs more, and a client that gets it in vain loses nothing.
    return None if newest.encode() in claims else newest


class Exclusive:
    """A lock among threads, and among processes that were forked after it was made.

    A killed process releases it.
    """

    def __init__(self) -> None:
        self._threads, self._file = Lock(), _nameless_file()

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *raised: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._threads.release()


class Table:
    """Remembers entries, each for its time, in a fixed number of places. A later entry may displace an earlier one.

    Processes that are forked after it was made share it.
    """

    _ENTRY = Struct(">12sI")

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._lock: AbstractContextManager[Any] = Exclusive() if HAS_FORKS else Lock()
        self._entries = mmap(-1, places * self._ENTRY.size)
        # Keyed, so that a client that chooses an entry can't aim at another's place.
        self._secret = token_bytes(32)

    def add(self, entry: bytes, forgotten_at: int) -> bool:
        """Remember the entry until that second; return whether it is new."""
        digest = hashlib.blake2b(entry, key=self._secret, digest_size=20).digest()
        place = int.from_bytes(digest[12:], "big") % self._places * self._ENTRY.size
        with self._lock:
            known, until = self._ENTRY.unpack_from(self._entries, place)
            if known == digest[:12] and time() < until:
                return False
            self._ENTRY.pack_into(self._entries, place, digest[:12], forgotten_at)
        return True


def _nameless_file() -> int:
    """Return the descriptor of a file that no other program can open. On Linux it is in memory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dpop")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


_used = Table()


def is_proof(text: str) -> bool:
    """Return whether the text says that it is a proof. It is not verified."""
    try:
        return compact.parse(compact.decode(compact.check(text, MAX_LENGTH).split(".")[0])).get("typ") == TYPE
    except (ValueError, RecursionError):
        return False


def _verify_signature(text: str) -> tuple[str, dict[str, Any]]:
    """Return the thumbprint of the proof's key, and the claims that the key has signed."""
    protected, payload, signature = compact.check(text, MAX_LENGTH).split(".")
    key, algorithm, jkt = _header(protected)
    claims = compact.parse(compact.decode_strictly(payload))
    message = f"{protected}.{payload}".encode()
    if not _algorithms[algorithm].verify(message, key, compact.decode_strictly(signature)):
        raise ValueError("not signed with its key")
    return jkt, claims


@lru_cache(maxsize=REMEMBERED)
def _header(segment: str) -> tuple[Any, str, str]:
    """Return the public key of a proof's header, the algorithm and the key's thumbprint."""
    header = compact.parse(compact.decode_strictly(segment))
    if header.keys() != {"typ", "alg", "jwk"} or header["typ"] != TYPE:
        raise ValueError("not the header of a proof")
    return _key(header["alg"], header["jwk"])


def _key(alg: Any, jwk: Any) -> tuple[Any, str, str]:
    """Return the public key, the algorithm and the key's thumbprint."""
    match alg, jwk:
        case "ES256", {"kty": "EC", "crv": "P-256", "x": str(x), "y": str(y)}:
            found = _p256(x, y)
        case "EdDSA" | "Ed25519", {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            found = _ed25519(x)
        case _:
            raise ValueError("not a key of this algorithm")
    if jwk.keys() & PRIVATE_MEMBERS:
        raise ValueError("a private key, which is not secret any more")
    return found


def _p256(x: str, y: str) -> tuple[Any, str, str]:
    numbers = EllipticCurvePublicNumbers(_integer(x), _integer(y), SECP256R1())
    key = numbers.public_key()  # raises ValueError if it is no point of the curve
    return key, "ES256", keys.thumbprint({"crv": "P-256", "kty": "EC", "x": x, "y": y})


def _ed25519(x: str) -> tuple[Any, str, str]:
    point = _coordinate(x)
    if int.from_bytes(point, "little") % 2**255 % _P in SMALL_ORDER:
        raise ValueError("a key that anybody can sign with")
    key = Ed25519PublicKey.from_public_bytes(point)
    return key, "EdDSA", keys.thumbprint({"crv": "Ed25519", "kty": "OKP", "x": x})


def _integer(member: str) -> int:
    return int.from_bytes(_coordinate(member), "big")


def _coordinate(member: str) -> bytes:
    data = compact.decode_strictly(member)
    if len(data) != 32:
        raise ValueError("not 32 bytes")
    return data


def _target(htu: Any) -> Target:
    # Python's parser would drop line breaks silently.
    if not isinstance(htu, str) or not htu.isprintable() or " " in htu:
        raise ValueError("not a URL")
    return Target(origin_of(htu), unquote(urlsplit(htu).path) or "/")


def _hash(token: str) -> str:
    return compact.encode(hashlib.sha256(token.encode()).digest())


def _expiry(claims: dict[str, Any], nonce_required: bool) -> int:
    """Return when a proof that is valid now expires. Raises NonceRequired."""
    now, minute = int(time()), _minute()
    if "nonce" in claims:
        # The nonce is dated by our clock, so the client's does not matter.
        for secret in keys.secrets_for("dpop nonce"):
            for age in range(NONCE_MINUTES):
                if claims["nonce"] == _nonce(secret, minute - age):
                    return 60 * (minute - age + NONCE_MINUTES)
        raise NonceRequired
    if nonce_required or not -MAX_AHEAD <= now - claims["iat"] <= MAX_AGE:
        raise NonceRequired
    return int(claims["iat"]) + MAX_AGE + 1


def _minute() -> int:
    return int(time()) // 60


@lru_cache(maxsize=16)
def _nonce(secret: bytes, minute: int) -> str:
    return compact.encode(hmac.digest(secret, minute.to_bytes(8, "big"), "sha256")[:16])
