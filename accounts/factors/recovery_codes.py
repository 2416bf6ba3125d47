"""Recovery codes, for owners who have lost their device. Every account with a second factor has them."""

import hashlib
from base64 import b32encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import token_bytes
from typing import Any

from django.db import transaction

from tokens.domain import events
from tokens.domain.client import Client
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid

from .. import kinds
from ..models import RecoveryCode, User
from .factor import CodeNotValid
from .spelling import as_issued

METHOD = "recoveryCode"
FIELD = "code"
NOT_VALID: type[AnswerNotValid] = CodeNotValid
AMR = (*PASSWORD, "mfa")
"""RFC 8176 has no word for a recovery code; "mfa" says that it was more than one factor."""

NUMBER = 10
LENGTH = 15  # bytes
GROUP = 6  # characters between hyphens


def usable() -> bool:
    return True


def since(user: User) -> datetime | None:
    oldest = user.recovery_codes.order_by("created_at").first()
    return oldest.created_at if oldest else None


def options(user: User, challenge: str) -> Mapping[str, Any]:
    return {}


@retried
def use(user: User, answer: Answer, client: Client) -> Sequence[str] | None:
    with transaction.atomic():
        used, __ = RecoveryCode.objects.filter(user=user, digest=_digest(as_issued(answer[FIELD]))).delete()
        if used:
            events.announce(kinds.RECOVERY_CODE_USED, user, client)
    return AMR if used else None


def remove(user: User) -> bool:
    deleted, __ = RecoveryCode.objects.filter(user=user).delete()
    return bool(deleted)


def issue(user: User) -> list[str]:
    """Replace the user's codes and return the new ones. Only their digests are stored."""
    remove(user)
    codes = [b32encode(token_bytes(LENGTH)).decode().lower() for _ in range(NUMBER)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(code)) for code in codes)
    return ["-".join(code[start : start + GROUP] for start in range(0, len(code), GROUP)) for code in codes]


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
