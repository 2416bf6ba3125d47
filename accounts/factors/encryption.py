"""Encryption at rest, under a key derived from `SECRET_KEY`; the keys of `SECRET_KEY_FALLBACKS` decrypt too."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tokens.jose import keys

PURPOSE = "second factor"


class Undecipherable(Exception):
    """The encrypted text is damaged, or its key is neither the current one nor a fallback."""


def encrypt(data: bytes) -> str:
    return _ciphers()[0].encrypt(data).decode()


def decrypt(text: str) -> bytes:
    """Raises Undecipherable."""
    return _decrypt(MultiFernet(_ciphers()), text)


def is_current(text: str) -> bool:
    """Return whether it was encrypted under the current key."""
    try:
        _decrypt(_ciphers()[0], text)
    except Undecipherable:
        return False
    return True


def _decrypt(cipher: Fernet | MultiFernet, text: str) -> bytes:
    try:
        return cipher.decrypt(text)
    except InvalidToken as error:
        raise Undecipherable from error


def _ciphers() -> list[Fernet]:
    return [Fernet(urlsafe_b64encode(key)) for key in keys.secrets_for(PURPOSE)]
