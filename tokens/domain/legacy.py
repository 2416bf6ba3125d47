"""Accepts SimpleJWT's tokens after a move, so the move signs nobody out.

A refresh token of SimpleJWT counts as the token of generation 0 of a session whose key is derived from it. So its
exchange is a rotation like any other, with retries, races and reuse. The token is remembered until it would have
expired, even if the session's row is deleted, so it never begins a second session.

An access token of SimpleJWT only names its user.
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
from ..jose import jwt, simplejwt
from ..jose.simplejwt import Former
from ..models import FormerToken, Reason, Session, User, uuid7_of
from . import cutoffs, sessions, users
from .client import Client
from .reading import read

logger = logging.getLogger(__name__)

NEVER = datetime.fromtimestamp(0, UTC)
"""The time of the sign-in, which SimpleJWT's tokens don't say: too long ago for any view that asks for a recent one."""

OUTSTANDING, BLACKLIST = "token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"
"""The tables of SimpleJWT's blacklist, which counts as long as they exist."""


class Presented(NamedTuple):
    """A presented refresh token, as the token of a session."""

    claims: dict[str, Any]
    session: Session
    is_new: bool
    """Whether the session has yet to begin."""


def is_refresh(token: Any) -> bool:
    """Return whether the token says that it is a refresh token of SimpleJWT. It is not verified."""
    return simplejwt.kind(token) == "refresh"


def is_access(token: Any) -> bool:
    return simplejwt.kind(token) == "access"


def present(token: Any, client: Client | None = None) -> Presented:
    """Return the refresh token's claims, as of generation 0 of its session, and that session.

    With a client, the session begins, unless it already has. `sessions` decides whether the token is still the current
    one. Raises TokenExpired, TokenNotValid, TokenRevoked or NoActiveAccount.
    """
    former = simplejwt.read(token)
    if former.kind != "refresh":
        raise TokenNotValid
    session = read(_key(former), _db())
    is_new = session is None
    if session is not None:
        _check_blacklist(former)
    elif client is None:
        session = _draft(former, _user(former))
        _check(former, session)
    else:
        session, is_new = _begin(former, client), False
    if str(getattr(session.user, _setting("USER_ID_FIELD"))) != former.user:
        raise TokenNotValid
    if session.ends_at() <= times.now():
        raise TokenExpired
    _check_password(former, session.user)
    return Presented(_claims(former, session), session, is_new)


def accept(token: Any) -> tuple[dict[str, Any], Session]:
    """Return the claims of the access token, and an unsaved session that only holds its user.

    Raises TokenExpired, TokenNotValid or TokenRevoked.
    """
    former = simplejwt.read(token)
    if former.kind != "access":
        raise TokenNotValid
    user = _user(former)
    cutoffs.check(user, former.issued_at)
    _check_password(former, user)
    session = _draft(former, user)
    claims = {**_claims(former, session), "auth_time": 0, "amr": [], "token_type": "access"}
    return claims, session


def past() -> QuerySet[FormerToken]:
    """Return the rows that are no longer needed, because their tokens have expired."""
    return _former_tokens().filter(expires_at__lte=times.now() - conf.leeway)


def _setting(name: str) -> Any:
    return (conf.legacy or {})[name]


def _user(former: Former) -> User:
    """Return the user whom the token names, from the database. Raises TokenRevoked."""
    try:
        user = users.rows(_db()).filter(**{_setting("USER_ID_FIELD"): former.user}).first()
    except (ValidationError, ValueError, OverflowError, DataError):
        user = None
    if user is None or not user.is_active or not users.is_shown(user, _db()):
        raise TokenRevoked
    return user


def _draft(former: Former, user: User) -> Session:
    """Return the session that the exchange begins. The exchange is no sign-in."""
    now = times.now()
    session = Session(pk=_key(former), user=cast(Any, user), amr="")
    session.created_at, session.rotated_at, session.reauthenticated_at = now, now, NEVER
    session.auth_hash, session.claims = user.get_session_auth_hash(), _custom_claims(former)
    # Without rotation, the client goes on with the old token.
    session.expires_at = min(_moment(former.expires_at), session.ends_at())
    return session


def _begin(former: Former, client: Client) -> Session:
    session = _draft(former, _user(former))
    _check_password(former, session.user)
    sessions.carry_on(session, client, partial(_is_first, former, session))
    try:
        # Ending all users' sessions locks no user: either it has seen the new row, or this sees its cutoff.
        cutoffs.check(session.user, former.issued_at)
    except TokenRevoked:
        sessions.revoke(session, Reason.COMMAND)
        raise
    # The winner of a race has written another row.
    return read(session.pk, _db()) or session


def _is_first(former: Former, session: Session) -> bool:
    """Record that the token has become a session; return whether this is the first time."""
    if sessions.exists(session.pk):
        return False
    _check(former, session)
    _former_tokens().create(session=session.pk, expires_at=_moment(former.expires_at))
    return True


def _check(former: Former, session: Session) -> None:
    """Refuse a token whose session ended before it had a row, or after its row was deleted."""
    if not sessions.may_sign_in(session.user):
        raise NoActiveAccount
    if _former_tokens().filter(pk=session.pk).exists():
        raise TokenRevoked
    cutoffs.check(session.user, former.issued_at)
    _check_blacklist(former)


def _check_password(former: Former, user: User) -> None:
    """Refuse a token of a former password, if SimpleJWT's CHECK_REVOKE_TOKEN put its hash into the token."""
    claimed = former.payload.get(_setting("REVOKE_TOKEN_CLAIM"))
    if claimed is not None and not constant_time_compare(str(claimed), get_md5_hash_password(user.password)):
        raise TokenRevoked


def _check_blacklist(former: Former) -> None:
    """Refuse a token that SimpleJWT has blacklisted, before the move or on a server that has yet to move.

    In a transaction, a parallel blacklisting waits for this, or this for it.
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
    """Return the claims that the project added to its tokens, which SimpleJWT copied to each access token."""
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
