"""SimpleJWT's tokens, after the move: nobody is signed out by it.

A refresh token of SimpleJWT's stands for a session whose key is derived from it, as the token of generation 0. So its
exchange is a rotation like any other, with its retries, its races and its reuse. That its session has begun is known
until it would have expired, whatever becomes of the session's row: it never begins a second one.

An access token of SimpleJWT's stands for its user alone.
"""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import DataError, connections, router
from django.db.models import QuerySet
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt.utils import get_md5_hash_password

from .. import times
from ..conf import conf
from ..exceptions import NoActiveAccount, TokenExpired, TokenNotValid, TokenRevoked
from ..jose import jwt, legacy
from ..jose.legacy import Former
from ..models import FormerToken, Reason, Session, User, uuid7_of
from . import cutoffs, sessions, users
from .client import Client
from .reading import read

logger = logging.getLogger(__name__)

NEVER = datetime.fromtimestamp(0, UTC)
"""When its user last gave the password, as far as anybody knows who judges a sign-in by its age."""

OUTSTANDING, BLACKLIST = "token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"
"""The tables of SimpleJWT's blacklist, which is honoured as long as they are there."""


class Presented(NamedTuple):
    """A refresh token that was presented, as the token of a session."""

    claims: dict[str, Any]
    session: Session
    is_new: bool
    """Whether the session has yet to begin."""


def is_refresh(token: Any) -> bool:
    """Return whether the token says that it is a refresh token of SimpleJWT's; nothing about it has been verified."""
    return legacy.kind(token) == "refresh"


def is_access(token: Any) -> bool:
    return legacy.kind(token) == "access"


def present(token: Any, client: Client | None = None) -> Presented:
    """Return the claims of the refresh token as those of generation 0 of its session, and that session.

    If it is said for which client, the session begins, unless it has. Whether the token is still the one that the
    session takes is for `sessions` to say.
    Raises TokenExpired, TokenNotValid, TokenRevoked or NoActiveAccount.
    """
    former = legacy.read(token)
    if former.kind != "refresh":
        raise TokenNotValid
    session = read(_key(former), _db())
    is_new = session is None
    if session is not None:
        _check_blacklist(former)
    elif client is None:
        session = _draft(former, _user(former))
        _judge(former, session)
    else:
        session, is_new = _begin(former, client), False
    if str(getattr(session.user, _setting("USER_ID_FIELD"))) != former.user:
        raise TokenNotValid
    if session.ends_at() <= times.now():
        raise TokenExpired
    _check_password(former, session.user)
    return Presented(_claims(former, session), session, is_new)


def accept(token: Any) -> tuple[dict[str, Any], Session]:
    """Return the claims of the access token, and a session with its user that there is not, and never was.

    Raises TokenExpired, TokenNotValid or TokenRevoked.
    """
    former = legacy.read(token)
    if former.kind != "access":
        raise TokenNotValid
    user = _user(former)
    cutoffs.check(user, former.issued_at)
    _check_password(former, user)
    session = _draft(former, user)
    claims = {**_claims(former, session), "auth_time": 0, "amr": [], "token_type": "access"}
    return claims, session


def past() -> QuerySet[FormerToken]:
    """Return what is no longer needed: those tokens have expired by themselves."""
    return _former_tokens().filter(expires_at__lte=times.now() - conf.leeway)


def _setting(name: str) -> Any:
    return (conf.legacy or {})[name]


def _user(former: Former) -> User:
    """Return the user whom the token names, as there now is. Raises TokenRevoked."""
    try:
        user = users.rows(_db()).filter(**{_setting("USER_ID_FIELD"): former.user}).first()
    except (ValidationError, ValueError, OverflowError, DataError):
        user = None
    if user is None or not user.is_active or not users.is_shown(user, _db()):
        raise TokenRevoked
    return user


def _draft(former: Former, user: User) -> Session:
    """Return the session as it begins with the exchange, which is no sign-in."""
    now = times.now()
    session = Session(pk=_key(former), user=cast(Any, user), amr="")
    session.created_at, session.rotated_at, session.reauthenticated_at = now, now, NEVER
    session.auth_hash, session.claims = user.get_session_auth_hash(), _custom_claims(former)
    # Where it is not rotated, the old token stays the one that is presented.
    session.expires_at = min(_moment(former.expires_at), session.ends_at())
    return session


def _begin(former: Former, client: Client) -> Session:
    session = _draft(former, _user(former))
    _check_password(former, session.user)
    sessions.carry_on(session, client, partial(_is_first, former, session))
    try:
        # What ends everybody's sessions locks no user: it has seen the new row, or is seen here.
        cutoffs.check(session.user, former.issued_at)
    except TokenRevoked:
        sessions.revoke(session, Reason.COMMAND)
        raise
    # Who was first in a race wrote another row than this one.
    return read(session.pk, _db()) or session


def _is_first(former: Former, session: Session) -> bool:
    """Note that the token has become a session, and return whether it had not before."""
    if sessions.exists(session.pk):
        return False
    _judge(former, session)
    _former_tokens().create(session=session.pk, expires_at=_moment(former.expires_at))
    return True


def _judge(former: Former, session: Session) -> None:
    """Refuse a token whose session ended before it had a row, or had one that is gone."""
    if not sessions.may_sign_in(session.user):
        raise NoActiveAccount
    if _former_tokens().filter(pk=session.pk).exists():
        raise TokenRevoked
    cutoffs.check(session.user, former.issued_at)
    _check_blacklist(former)


def _check_password(former: Former, user: User) -> None:
    """Refuse a token of another password, where SimpleJWT's CHECK_REVOKE_TOKEN has put that into it."""
    claimed = former.payload.get(_setting("REVOKE_TOKEN_CLAIM"))
    if claimed is not None and not constant_time_compare(str(claimed), get_md5_hash_password(user.password)):
        raise TokenRevoked


def _check_blacklist(former: Former) -> None:
    """Refuse a token that SimpleJWT has blacklisted, before the move or on a server that has yet to move.

    In a transaction, whoever blacklists it in this moment waits for us, or we for them.
    """
    connection = connections[_db()]
    with connection.cursor() as cursor:
        if BLACKLIST not in connection.introspection.table_names(cursor):
            return
        locked = " FOR UPDATE" if connection.features.has_select_for_update else ""
        cursor.execute(f"SELECT id FROM {OUTSTANDING} WHERE jti = %s{locked}", [former.jti])  # noqa: S608 (our names)
        row = cursor.fetchone()
        if row is None:
            return
        cursor.execute(f"SELECT 1 FROM {BLACKLIST} WHERE token_id = %s", row)  # noqa: S608
        if cursor.fetchone():
            raise TokenRevoked


def _claims(former: Former, session: Session) -> dict[str, Any]:
    return {
        **former.payload,
        "iss": conf.issuer,
        "sub": str(session.user_id),
        "sid": str(session.pk),
        "jti": session.jti(0),
        "generation": 0,
    }


def _custom_claims(former: Former) -> str:
    """Return what the project had added to its tokens, which SimpleJWT handed on to each access token."""
    known = {*jwt.RESERVED, _setting("USER_ID_CLAIM"), _setting("REVOKE_TOKEN_CLAIM")}
    own = {name: value for name, value in former.payload.items() if name not in known}
    try:
        return jwt.encode_claims(own) if own else ""
    except (ValueError, TypeError) as error:
        logger.warning("Left out the claims of an old token of user %s: %s", former.user, error)
        return ""


def _key(former: Former) -> UUID:
    return uuid7_of(_moment(former.issued_at), former.jti)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _former_tokens() -> QuerySet[FormerToken]:
    return FormerToken.objects.using(_db())


def _db() -> str:
    return router.db_for_write(Session)
