"""The verbs of a session: start, reauthenticate, rotate, accept, extend, introspect, revoke, prune.

The hot path holds no lock across statements. Every change is one UPDATE that names the state it was decided on, so the
row decides who wins a race. If no row matched, the code reads again and decides again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn, cast
from uuid import UUID

from django.db import connections, router, transaction
from django.dispatch import Signal
from django.utils.crypto import constant_time_compare

from .. import kinds, signals, times
from ..conf import conf, resolve
from ..exceptions import (
    KeyMismatch,
    NoActiveAccount,
    ProofRequired,
    TokenExpired,
    TokenNotValid,
    TokenReused,
    TokenRevoked,
)
from ..models import NAME_LENGTH, Reason, SecurityEvent, Session, SessionQuerySet, User, fingerprints, new_secret, uuid7
from . import cutoffs, events, feed, limits, users, writing
from .client import UNKNOWN, Client
from .outages import retried
from .outlasting import outlast
from .reading import lock, read
from .rotation import Step, decide, given_up

PRUNED_AT_LOGIN = 10

EXTENSION_INTERVAL = timedelta(minutes=1)
"""The least time between two writes for a page that keeps a session in use, so that not every request writes."""


Claims = Mapping[str, Any]

Prove = Callable[[str], None]
"""Checks whether a caller holds the key of that thumbprint. It can be called more than once. Raises ProofRefused."""


def unproven(jkt: str) -> None:
    """Stand in for a caller without a proof. Raises ProofRequired."""
    raise ProofRequired


PASSWORD = ("pwd",)
"""The methods of a sign-in by the password alone (RFC 8176)."""


@retried
def start(
    user: User,
    client: Client = UNKNOWN,
    amr: Sequence[str] = PASSWORD,
    *,
    remembered: bool = True,
    device_name: str = "",
    claims: str = "",
    jkt: str = "",
    replaced: Session | None = None,
    authenticated_at: datetime | None = None,
    pk: UUID | None = None,
) -> Session:
    """Begin a session for the user, within the cap, which also holds under parallel logins.

    `amr` says how the user signed in (RFC 8176). A session that is not `remembered` ends sooner, and its cookie with
    the browser. `device_name` is the client's name for itself, `claims` are the project's claims for the tokens, as
    JSON, and `jkt` is the thumbprint of the key to which they are bound. The session `replaced` ends.
    `authenticated_at` is the time of the sign-in, if it was not now. With `pk`, only one session can ever begin under
    that key: any other try raises IntegrityError. Raises NoActiveAccount if the user was deactivated or deleted
    meanwhile.
    """
    now = times.now()
    session = Session(pk=pk or uuid7(), user=cast(Any, user), created_at=now, rotated_at=now)
    session.auth_hash = user.get_session_auth_hash()
    session.remembered, session.jkt = remembered, jkt
    session.expires_at = session.expiry(now)
    session.ip_address, session.user_agent = client.ip_address, client.user_agent
    session.amr, session.device_name = " ".join(amr), device_name
    session.claims, session.reauthenticated_at = claims, authenticated_at
    login = events.event(kinds.LOGIN, user, client, session)
    if replaced is None and _begin_at_once(session, login):
        return session
    with transaction.atomic(using=_db()):
        session.groups = _lock(user)
        if replaced:
            revoke(replaced, Reason.REPLACED, client, user)
        live, expired = writing.begin(session, login, _db())
        evicted = _make_room(session, live, expired, client)
        events.announce_inserted([login])
        signals.session_started.send(Session, session=session, client=client, evicted=evicted, succeeds=None)
    return session


@retried
def carry_on(session: Session, client: Client, is_wanted: Callable[[], bool]) -> None:
    """Begin a session that continues an earlier sign-in. It is no new sign-in, so it makes no room within the cap.

    `is_wanted` is called while the user is locked, so that nothing can end all the user's sessions in between. Raises
    NoActiveAccount if the user was deactivated or deleted meanwhile.
    """
    with transaction.atomic(using=_db()):
        _lock(session.user)
        if is_wanted():
            session.ip_address, session.user_agent = client.ip_address, client.user_agent
            session.save(using=_db(), force_insert=True)
            events.announce(kinds.LEGACY_EXCHANGED, session.user, client, session)


def may_sign_in(user: User) -> bool:
    """Return whether the user is active, and the project's rule allows it (SimpleJWT's USER_AUTHENTICATION_RULE)."""
    rule = resolve(conf.user_authentication_rule)
    return bool(user.is_active and (rule is None or rule(user)))


@retried
def succeed(session: Session, user: User, client: Client = UNKNOWN) -> Session:
    """End the session, whose user has just changed the password, and begin one that replaces it.

    Copies of the old tokens stop working. The new session is for the same device and keeps the time of the sign-in, so
    nothing is announced. Call it in the transaction that changes the password, with the changed user. Raises
    TokenRevoked if the session has ended meanwhile.
    """
    now = times.now()
    with transaction.atomic(using=_db()):
        successor = copy(session)
        successor.pk, successor.user, successor.secret = uuid7(), cast(Any, user), new_secret()
        successor.generation = successor.predecessor = 0
        successor.confirmed, successor.exposed = True, False
        successor.created_at, successor.rotated_at, successor.reauthenticated_at = now, now, session.authenticated_at
        successor.expires_at, successor.auth_hash = successor.expiry(now), user.get_session_auth_hash()
        successor.ip_address, successor.user_agent = client.ip_address, client.user_agent
        if not _revoke([copy(session)], Reason.PASSWORD, client, user, announced=False):
            raise TokenRevoked
        writing.insert([successor], _db())
        signals.session_started.send(Session, session=successor, client=client, evicted=[], succeeds=session)
    return successor


@retried
def reauthenticate(session: Session, client: Client = UNKNOWN, amr: Sequence[str] = PASSWORD) -> None:
    """Record that the session's user has just given the password again, and that it was right.

    Access tokens say so from now on. The refresh token stays as it is. Raises TokenRevoked if the session has ended
    meanwhile.
    """
    now, how = times.now(), " ".join(amr)
    with transaction.atomic(using=_db()):
        # Only a live session, since `revoke_all` doesn't look for expired ones.
        if not _sessions().live().filter(pk=session.pk).update(reauthenticated_at=now, amr=how):
            raise TokenRevoked
        session.reauthenticated_at, session.amr = now, how
        events.announce(kinds.REAUTHENTICATED, session.user, client, session)
        signals.session_reauthenticated.send(Session, session=session, client=client)


@retried
def rotate(claims: Claims, client: Client = UNKNOWN, prove: Prove = unproven) -> Session:
    """Exchange a refresh token, given as its verified claims; return the session, whose current token the client gets.

    Raises TokenNotValid, TokenRevoked, ProofRefused, NoActiveAccount or, after revoking the session, TokenReused.
    """
    raced = False
    while True:  # Each further round means that another request changed the row, which can happen only a few times.
        session = _get(claims, groups=True)
        _check_jti(session, claims)
        _check_key(session, client, prove)
        _check_rule(session)
        now = times.now()
        match decide(session, claims["generation"], now, raced=raced):
            case Step.GIVE_AGAIN:
                _announce_retry(session, client)
                done = True
            case Step.GIVE_BACK:
                done = session.confirmed or _confirm(session)
            case Step.ROTATE:
                done = _advance(session, now, client, predecessor=session.generation)
            case Step.RETRY_LATE:
                done = _advance(session, now, client, predecessor=session.predecessor, unconfirmed_only=True)
            case _:
                _refuse_reuse(session, client)
        if done:
            return session
        raced = True


@retried
def refresh_without_rotation(claims: Claims, client: Client = UNKNOWN, prove: Prove = unproven) -> Session:
    """Return the session of a refresh token without exchanging it: the token stays the current one.

    If the session was rotated elsewhere, its older tokens are superseded as always. Raises TokenNotValid, TokenRevoked,
    ProofRefused, NoActiveAccount or, after revoking the session, TokenReused.
    """
    while True:
        session = _get(claims, groups=True)
        _check_jti(session, claims)
        _check_key(session, client, prove)
        _check_rule(session)
        match decide(session, claims["generation"], times.now()):
            case Step.GIVE_AGAIN:
                return session
            case Step.GIVE_BACK | Step.ROTATE:
                if session.confirmed or _confirm(session):
                    return session
            case _:
                _refuse_reuse(session, client)


@retried
def accept(
    claims: Claims, client: Client = UNKNOWN, prove: Prove = unproven, *, confirm: bool = True, groups: bool = False
) -> Session:
    """Return the session of an access token, given as its verified claims, with its user; one SELECT.

    The first use of a token that a rotation issued confirms the rotation. Turn `confirm` off if the caller may still
    refuse the request. Raises TokenNotValid, TokenRevoked, ProofRefused or, after revoking the session, TokenReused.
    """
    while True:
        session = _get(claims, groups=groups)
        _check_key(session, client, prove)
        if given_up(session, claims["generation"]):
            _refuse_reuse(session, client)
        if not confirm or session.confirmed or claims["generation"] != session.generation or _confirm(session):
            return session


@retried
def extend(claims: Claims, client: Client = UNKNOWN) -> Session:
    """Return the session that `sid` and `sub` name, and extend it as a rotation does, at most once a minute.

    For pages: no client ever gets the refresh tokens of their sessions. A session that was rotated is refused: moving
    its time would arm its grace period. Raises TokenNotValid, TokenExpired or TokenRevoked.
    """
    while True:
        session = _get(claims)
        now = times.now()
        if session.generation:
            raise TokenNotValid
        if session.expires_at <= now:
            raise TokenExpired
        if abs(now - session.rotated_at) < EXTENSION_INTERVAL or _use(session, now, client, {}, generation=0):
            return session


@retried
def introspect(claims: Claims) -> Session:
    """Return the session of a token of either kind, if it would be accepted now. This is no use of the token.

    A refresh token counts as good while a refresh would accept it, including retries. Otherwise a thief could poll,
    learn when the owner refreshes, and present the old token in time. Raises TokenNotValid or TokenRevoked.
    """
    session, generation = _get(claims, groups=True), claims["generation"]
    if claims["token_type"] == "refresh":
        _check_jti(session, claims)
        is_good = decide(session, generation, times.now()) is not Step.END
    else:
        is_good = not given_up(session, generation)
    if is_good:
        return session
    if given_up(session, generation) and not session.exposed:
        # A token that a late retry gave up reveals when that was. Its holder must not get the new token by one more
        # retry.
        _sessions().filter(pk=session.pk, generation=session.generation).update(exposed=True)
    raise TokenNotValid


def find(claims: Claims) -> Session:
    """Return the live session of a genuine token of either kind and any generation.

    Raises TokenNotValid or TokenRevoked.
    """
    session = _get(claims)
    if claims["token_type"] == "refresh":
        _check_jti(session, claims)
    return session


def exists(pk: UUID) -> bool:
    """Return whether a session with that key has ever begun, alive or not."""
    return _sessions().filter(pk=pk).exists()


def belongs(claims: Claims, session: Session) -> bool:
    """Return whether the refresh token is a genuine one of that session, of any generation."""
    names = (claims["sid"], claims["sub"])
    return names == (str(session.pk), str(session.user_id)) and _is_genuine(session, claims)


@retried
def revoke(session: Session, reason: Reason, client: Client = UNKNOWN, by: User | None = None) -> bool:
    """Revoke the session; return whether this call did. `by` is the person who revokes it, if there is one."""
    is_alone = _is_alone(signals.sessions_revoked) and not feed.is_read()
    with nullcontext() if is_alone else transaction.atomic(using=_db()):
        return _revoke([session], reason, client, by)


@retried
def revoke_others(session: Session, reason: Reason, client: Client = UNKNOWN, by: User | None = None) -> int:
    """Revoke every other session of the session's user; return their number."""
    return _revoke_all(session.user, reason, client, by, but=session)


@retried
def revoke_all(user: User, reason: Reason, client: Client = UNKNOWN, by: User | None = None) -> int:
    """Revoke every session of the user; return their number."""
    return _revoke_all(user, reason, client, by)


@retried
def revoke_these(
    sessions: SessionQuerySet, reason: Reason, client: Client = UNKNOWN, by: User | None = None
) -> list[Session]:
    """Revoke the sessions of a queryset in one transaction; return those that were still alive."""
    with transaction.atomic(using=_db()):
        # Locked in the order of the primary key, so that two such calls never deadlock.
        locked = list(sessions.filter(revoked_at=None).select_for_update(of=("self",)).order_by("pk"))
        _revoke_locked(locked, reason, client, by)
    return locked


def rename(session: Session, device_name: str) -> bool:
    """Name the session's device; return whether the session was still alive."""
    session.device_name = device_name
    return bool(_sessions().live().filter(pk=session.pk).update(device_name=device_name))


@retried
def store_claims(session: Session) -> None:
    """Store the claims of a session that has just begun in its row. Raises TokenRevoked."""
    if not _sessions().filter(pk=session.pk, generation=0, revoked_at=None).update(claims=session.claims):
        raise TokenRevoked


def renew_auth_hash(user: User, former: Collection[str]) -> None:
    """Keep the user's sessions when the same password gets another hash.

    `former` are the fingerprints before the change. Call it in the transaction that changes the hash.
    """
    kept = _sessions().filter(user_id=user.pk, auth_hash__in=former)
    kept.update(auth_hash=user.get_session_auth_hash())
    cutoffs.renew_auth_hash(user, former)


def publish_password_change(user: User) -> None:
    """Publish the sessions that have ended because the user's password has changed since their login.

    Their rows stay as they are. Sessions that are in the feed already are left out.
    """
    usable = _sessions().live(conf.access_token_lifetime).filter(user_id=user.pk)
    ended = usable.exclude(auth_hash__in=list(fingerprints(user))).exclude(pk__in=feed.listed())
    feed.publish(ended.values_list("pk", flat=True), Reason.PASSWORD)


def publish_deletion(sessions: Iterable[Session]) -> None:
    """Publish the sessions that end because their user is about to be deleted."""
    # An access token outlives the refresh token that it came with.
    expired = times.now() - conf.access_token_lifetime
    feed.publish([row.pk for row in sessions if row.revoked_at is None and row.expires_at > expired], feed.DELETED)


def _get(claims: Claims, *, groups: bool = False) -> Session:
    """Return the session that a verified token names, with its user, if it is alive."""
    session = read(UUID(claims["sid"]), _db(), claims["sub"], groups=groups)
    if session is None:
        # The token is genuine, so the session or its user has been deleted since.
        raise TokenRevoked
    # The row says who the user is, so that a signing key alone can't impersonate another user.
    if claims["sub"] != str(session.user_id):
        raise TokenNotValid
    user = session.user
    if session.revoked_at is not None or not user.is_active or session.password_changed:
        raise TokenRevoked
    if not users.is_shown(user, _db()):
        raise TokenRevoked
    return session


def _is_genuine(session: Session, claims: Claims) -> bool:
    """Return whether the refresh token was issued for this row. The signing key alone can't make one."""
    return constant_time_compare(claims["jti"], session.jti(claims["generation"]))


def _check_jti(session: Session, claims: Claims) -> None:
    if not _is_genuine(session, claims):
        raise TokenNotValid


def _check_rule(session: Session) -> None:
    if not may_sign_in(session.user):
        raise NoActiveAccount


def _check_key(session: Session, client: Client, prove: Prove) -> None:
    """Refuse a client without the key of a session that is bound to one.

    That never ends the session: without the key, its tokens are useless to a thief.
    """
    if not session.jkt:
        return
    try:
        prove(session.jkt)
    except (ProofRequired, KeyMismatch):
        events.announce(kinds.TOKEN_UNPROVEN, session.user, client, session)
        raise


def _confirm(session: Session) -> bool:
    session.confirmed = writing.update(session.pk, _db(), {"confirmed": True}, generation=session.generation)
    return session.confirmed


def _advance(
    session: Session,
    now: datetime,
    client: Client,
    *,
    predecessor: int,
    unconfirmed_only: bool = False,
) -> bool:
    """Move the row on by one generation, if it is still as it was read; return whether it was."""
    state = {"generation": session.generation}
    if unconfirmed_only:
        # A token that the late retry is about to give up must not be accepted at the same time.
        state["confirmed"] = False
    following = session.generation + 1
    changes = {"generation": following, "predecessor": predecessor, "confirmed": False, "exposed": False}
    if not _use(session, now, client, changes, **state):
        return False
    signals.session_rotated.send(Session, session=session, client=client)
    return True


def _announce_retry(session: Session, client: Client) -> None:
    """Announce a retry that looks like a copied token: from another network and another user agent."""
    networks = {limits.network(client.ip_address), limits.network(session.ip_address)}
    if len(networks) > 1 and all(networks) and client.user_agent != session.user_agent:
        events.announce(kinds.RETRIED_ELSEWHERE, session.user, client, session)


def _use(session: Session, now: datetime, client: Client, changes: dict[str, Any], **state: Any) -> bool:
    """Record the client's use, with the changes, if the session is alive and in that state; return whether it was."""
    changes |= {
        "rotated_at": now,
        "expires_at": session.expiry(now),
        "ip_address": client.ip_address,
        "user_agent": client.user_agent,
    }
    auth_hash = session.user.get_session_auth_hash()
    if auth_hash != session.auth_hash:
        # SECRET_KEY was rotated since the fingerprint was taken.
        state["auth_hash"], changes["auth_hash"] = session.auth_hash, auth_hash
    if not writing.update(session.pk, _db(), changes, **state):
        return False
    for name, value in changes.items():
        setattr(session, name, value)
    return True


def _revoke_all(user: User, reason: Reason, client: Client, by: User | None, *, but: Session | None = None) -> int:
    with transaction.atomic(using=_db()):
        # The row has the current password. With an outdated one, the session that a password change kept would be
        # missed. Locks are always taken in this order, the user first.
        current = users.rows(_db()).filter(pk=user.pk).select_for_update(no_key=True).first()
        if current is None:
            return 0
        cutoffs.end(current)
        # A server whose clock is behind, or a refresh under way, may still renew a session that has just expired.
        ended = _sessions().live(times.CLOCK_SKEW).of(current)
        return len(revoke_these(ended if but is None else ended.exclude(pk=but.pk), reason, client, by))


def _revoke_locked(locked: list[Session], reason: Reason, client: Client, by: User | None = None) -> None:
    if locked:
        _revoke(locked, reason, client, by)


def _revoke(
    sessions: list[Session],
    reason: Reason,
    client: Client,
    by: User | None,
    *,
    announced: bool = True,
) -> bool:
    """Revoke one session, or several that are locked, and announce it; return whether any was still alive."""
    changes = {
        "revoked_at": times.now(),
        "revoked_reason": reason,
        "revoked_by": str(by.get_username())[:NAME_LENGTH] if by else "",
        "revoked_from": client.ip_address,
    }
    endings = [events.ending(session, reason, client) for session in sessions] if announced else []
    if len(sessions) == 1:
        were_left = writing.end(sessions[0].pk, _db(), changes, *endings)
    else:
        were_left = bool(_sessions().filter(pk__in=[session.pk for session in sessions]).update(**changes))
        writing.insert(endings if were_left else [], _db())
    if not were_left:
        return False
    for session in sessions:
        for name, value in changes.items():
            setattr(session, name, value)
    feed.publish([session.pk for session in sessions], reason)
    events.announce_inserted(endings)
    signals.sessions_revoked.send(Session, sessions=sessions, reason=reason, client=client)
    return True


def _refuse_reuse(session: Session, client: Client) -> NoReturn:
    """Revoke the session, commit that, and raise."""
    if not _revoke_for_reuse(session, client):
        raise TokenRevoked
    outlast(partial(_revoke_for_reuse, session, client), _db())
    raise TokenReused


def _revoke_for_reuse(session: Session, client: Client) -> bool:
    if not revoke(session, Reason.REUSED, client):
        return False
    _announce_reuse(session, client)
    return True


@retried
def _announce_reuse(session: Session, client: Client) -> None:
    # Retried on its own: a retry of the whole would find the session revoked, and announce nothing.
    signals.token_reused.send(Session, session=session, client=client)


def _lock(user: User) -> list[str] | None:
    """Lock the user's row until the end of the transaction, and return the names of the user's groups."""
    locked = lock(user, _db())
    if locked is None:
        raise NoActiveAccount
    row, groups = locked
    if not row.is_active or not users.is_shown(row, _db()):
        raise NoActiveAccount
    return groups


def _begin_at_once(session: Session, login: SecurityEvent) -> bool:
    """Begin the session by one message to the database, if nothing else has to be done; return whether it began."""
    if not _is_alone(signals.session_started) or users.hides_some():
        return False
    found = writing.begin_at_once(session, login, conf.max_sessions_per_user, _db())
    if found is None:
        return False
    _, *names = found
    session.groups = names[0] if names else None
    events.announce_inserted([login])
    return True


def _is_alone(signal: Signal) -> bool:
    """Return whether the statement of a change needs no transaction around it: no receiver writes along with it."""
    is_heard = signal.has_listeners(Session) or signals.event_announced.has_listeners(SecurityEvent)
    return not is_heard and writing.is_one_statement(_db()) and connections[_db()].get_autocommit()


def _make_room(session: Session, live: int, expired: int, client: Client) -> list[Session]:
    """Revoke and return the sessions that exceed the cap with a new one, or else delete expired ones.

    `live` and `expired` are how many others the user has. If there is nothing to do, this takes no statement.
    """
    cap = conf.max_sessions_per_user
    evicted = _evict(session, cap, client) if 0 < cap <= live else []
    if expired and not evicted:
        _prune(session.user)
    return evicted


def _evict(session: Session, cap: int, client: Client) -> list[Session]:
    """Revoke the least recently used sessions, so that the new one fits the cap; return them."""
    others = _sessions().live().of(session.user).exclude(pk=session.pk)
    # All are locked before they are compared, since a refresh under way may be using the one that seems unused.
    locked = others.select_for_update(of=("self",)).order_by("pk")
    evicted = sorted(locked, key=lambda other: (other.rotated_at, other.pk), reverse=True)[cap - 1 :]
    _revoke_locked(evicted, Reason.CAP, client)
    return evicted


def _prune(user: User) -> None:
    expired = _sessions().filter(user_id=user.pk).expired().order_by("pk").values("pk")[:PRUNED_AT_LOGIN]
    # Filtered again, since a refresh may have renewed one meanwhile.
    _sessions().filter(pk__in=expired).expired().delete()


def _sessions() -> SessionQuerySet:
    # Always read from the primary database: a replica that lags would keep a revoked session alive.
    return Session.objects.using(_db())


def _db() -> str:
    return router.db_for_write(Session)
