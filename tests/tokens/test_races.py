"""Who wins if two things happen at once: each pair in a chosen order, and many times in real threads."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from tests.racing import await_somebody_who_waits, in_parallel, just_before
from tokens.domain import sessions
from tokens.exceptions import NoActiveAccount, TokenRefused, TokenReused, TokenRevoked
from tokens.models import Reason, SecurityEvent, Session
from tokens.tokens import AccessToken, RefreshToken

UPDATE = 'UPDATE "latchkey_session"'
THREADS = 8
ROUNDS = 5

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann(transactional_db: None, django_user_model: Any) -> Any:
    return django_user_model._default_manager.create_user("ann", password="correct horse battery staple")


@pytest.fixture
def session(ann: Any) -> Session:
    return sessions.start(ann)


def refresh(session: Session) -> dict[str, Any]:
    return dict(RefreshToken.of(session).payload)


def access(session: Session) -> dict[str, Any]:
    return AccessToken.of(session).payload


def rotated(session: Session) -> Session:
    return sessions.rotate(refresh(session))


def age(session: Session, seconds: int = 11) -> None:
    """Set how long ago the last rotation was."""
    Session.objects.filter(pk=session.pk).update(rotated_at=timezone.now() - timedelta(seconds=seconds))


def outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except TokenRefused as refusal:
        return type(refusal)


# In a chosen order


def test_loser_of_a_race_returns_the_winners_token(session: Session, django_assert_num_queries: Any) -> None:
    claims = refresh(session)
    won: list[Session] = []
    with just_before(UPDATE, lambda: won.append(sessions.rotate(claims))):
        lost = sessions.rotate(claims)
    assert str(RefreshToken.of(lost)) == str(RefreshToken.of(won[0]))
    assert Session.objects.get().generation == 1


def test_loser_of_a_race_does_not_undo_later_changes(session: Session) -> None:
    claims = refresh(session)

    def rotate_twice() -> None:
        current = rotated(session)
        age(session)
        sessions.rotate(refresh(current))

    with just_before(UPDATE, rotate_twice), pytest.raises(TokenReused):
        sessions.rotate(claims)
    assert Session.objects.get().generation == 2


def test_lost_race_costs_three_statements(session: Session, django_assert_num_queries: Any) -> None:
    claims = refresh(session)
    with django_assert_num_queries(2 + 3), just_before(UPDATE, lambda: sessions.rotate(claims)):
        sessions.rotate(claims)


def test_loser_of_a_race_without_a_grace_period_is_reuse(session: Session, settings: Settings) -> None:
    settings.TOKENS_GRACE_PERIOD = timedelta(0)
    claims = refresh(session)
    with just_before(UPDATE, lambda: sessions.rotate(claims)), pytest.raises(TokenReused):
        sessions.rotate(claims)
    assert Session.objects.get().revoked_reason == Reason.REUSED


def test_revocation_beats_a_rotation_in_progress(session: Session) -> None:
    with just_before(UPDATE, lambda: sessions.revoke(session, Reason.LOGOUT)), pytest.raises(TokenRevoked):
        rotated(session)
    assert Session.objects.get().generation == 0


def test_deletion_beats_a_rotation_in_progress(session: Session) -> None:
    with just_before(UPDATE, Session.objects.all().delete), pytest.raises(TokenRevoked):
        rotated(session)


def test_revocation_beats_a_use_in_progress(session: Session) -> None:
    claims = access(rotated(session))
    with just_before(UPDATE, lambda: sessions.revoke(session, Reason.LOGOUT)), pytest.raises(TokenRevoked):
        sessions.accept(claims)


def test_use_beats_a_late_retry_in_progress(session: Session) -> None:
    first = refresh(session)
    used = access(rotated(session))
    age(session)
    with just_before(UPDATE, lambda: sessions.accept(used)), pytest.raises(TokenReused):
        sessions.rotate(first)


@pytest.mark.parametrize("kind", [access, refresh])
def test_late_retry_beats_a_use_in_progress(session: Session, kind: Callable[[Session], dict[str, Any]]) -> None:
    first = refresh(session)
    used = kind(rotated(session))
    use = sessions.accept if kind is access else sessions.rotate

    def retry() -> None:
        age(session)
        sessions.rotate(first)

    with just_before(UPDATE, retry), pytest.raises(TokenReused):
        use(used)


def test_loser_of_two_late_retries_returns_the_winners_token(session: Session) -> None:
    first = refresh(session)
    rotated(session)
    age(session)
    won: list[Session] = []
    with just_before(UPDATE, lambda: won.append(sessions.rotate(first))):
        lost = sessions.rotate(first)
    assert refresh(lost) == refresh(won[0])
    assert Session.objects.get().generation == 2


def test_two_parallel_uses_confirm_once(session: Session) -> None:
    used = access(rotated(session))
    with just_before(UPDATE, lambda: sessions.accept(used)):
        assert sessions.accept(used).confirmed


def test_use_of_an_access_token_survives_a_rotation_in_progress(session: Session) -> None:
    current = rotated(session)
    used, renewed = access(current), refresh(current)

    def rotate() -> None:
        age(session)
        sessions.rotate(renewed)

    with just_before(UPDATE, rotate):
        assert sessions.accept(used).generation == 2


def test_parallel_second_reuse_finds_the_session_revoked(session: Session) -> None:
    first = refresh(session)
    current = rotated(session)
    age(session)
    sessions.rotate(refresh(current))
    with just_before(UPDATE, lambda: outcome(lambda: sessions.rotate(first))), pytest.raises(TokenRevoked):
        sessions.rotate(first)
    assert SecurityEvent.objects.filter(kind="token_reused").count() == 1


def test_fingerprint_renewed_meanwhile_is_not_overwritten(ann: Any, session: Session, settings: Settings) -> None:
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another key " * 5

    def upgrade_hash() -> None:
        former = list(Session.objects.values_list("auth_hash", flat=True))
        ann.set_password("correct horse battery staple")
        ann.save()
        sessions.renew_auth_hash(ann, former)

    with just_before(UPDATE, upgrade_hash):
        current = rotated(session)
    assert refresh(sessions.rotate(refresh(current))) == refresh(current)


def test_revoking_all_reaches_a_session_started_by_a_parallel_password_change(ann: Any, session: Session) -> None:
    changed = type(ann).objects.get(pk=ann.pk)
    changed.set_password("quite another horse")
    changed.save()
    sessions.succeed(session, changed)
    assert sessions.revoke_all(ann, Reason.LOGOUT_ALL) == 1


def test_revoking_all_reaches_a_session_with_a_refresh_in_progress(ann: Any, session: Session) -> None:
    claims = refresh(session)
    Session.objects.filter(pk=session.pk).update(expires_at=timezone.now())
    with just_before(UPDATE, lambda: sessions.revoke_all(ann, Reason.LOGOUT_ALL)), pytest.raises(TokenRevoked):
        sessions.rotate(claims)


def log_in_beside_a_refresh(user: Any, claims: dict[str, Any]) -> Session:
    """Start a session while a transaction has rotated another one, and goes on until the login waits for it."""
    rotated = Event()

    def refresh_slowly() -> None:
        with transaction.atomic():
            sessions.rotate(claims)
            rotated.set()
            await_somebody_who_waits()

    def log_in() -> Session:
        rotated.wait(30)
        return sessions.start(user)

    refreshed, begun = in_parallel(refresh_slowly, log_in)
    assert refreshed is None
    assert isinstance(begun, Session)
    return begun


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_login_keeps_a_session_with_a_refresh_in_progress(ann: Any, session: Session) -> None:
    claims = refresh(session)
    Session.objects.filter(pk=session.pk).update(expires_at=timezone.now())
    assert log_in_beside_a_refresh(ann, claims) == Session.objects.latest("pk")
    assert sessions.rotate(claims).generation == 1


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_login_beyond_the_cap_spares_a_session_with_a_refresh_in_progress(
    ann: Any, session: Session, settings: Settings
) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 2
    least_used = sessions.start(ann)
    log_in_beside_a_refresh(ann, refresh(session))
    assert Session.objects.get(revoked_reason=Reason.CAP) == least_used


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("listeners", ["heard", "unheard"])
def test_login_with_a_deactivation_in_progress_is_refused(
    ann: Any, request: pytest.FixtureRequest, listeners: str
) -> None:
    request.getfixturevalue(listeners)
    deactivated = Event()

    def deactivate() -> None:
        with transaction.atomic():
            type(ann).objects.filter(pk=ann.pk).update(is_active=False)
            deactivated.set()
            await_somebody_who_waits()

    def log_in() -> Session:
        deactivated.wait(30)
        return sessions.start(ann)

    _, refusal = in_parallel(deactivate, log_in)
    assert isinstance(refusal, NoActiveAccount)
    assert not Session.objects.exists()
    assert not SecurityEvent.objects.exists()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("listeners", ["heard", "unheard"])
def test_cap_holds_with_a_login_in_progress(
    ann: Any, settings: Settings, request: pytest.FixtureRequest, listeners: str
) -> None:
    request.getfixturevalue(listeners)
    settings.TOKENS_MAX_SESSIONS_PER_USER = 1
    begun = Event()

    def log_in_slowly() -> None:
        with transaction.atomic():
            sessions.start(ann)
            begun.set()
            await_somebody_who_waits()

    def log_in() -> Session:
        begun.wait(30)
        return sessions.start(ann)

    assert in_parallel(log_in_slowly, log_in) == [None, Session.objects.live().get()]


def test_revoking_all_sessions_of_a_just_deleted_user_ends_none(ann: Any, session: Session) -> None:
    type(ann).objects.filter(pk=ann.pk).delete()
    assert sessions.revoke_all(ann, Reason.LOGOUT_ALL) == 0


def test_failed_login_of_a_just_deleted_user_is_just_failed(ann: Any) -> None:
    with just_before('INSERT INTO "latchkey_securityevent"', lambda: type(ann).objects.filter(pk=ann.pk).delete()):
        assert authenticate(username="ann", password="wrong") is None
    assert not SecurityEvent.objects.exists()


def test_login_of_a_just_deleted_user_is_refused(ann: Any) -> None:
    type(ann).objects.filter(pk=ann.pk).delete()
    with pytest.raises(NoActiveAccount):
        sessions.start(ann)


# In threads


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_parallel_refreshes_agree_on_one_successor(session: Session, _round: int) -> None:
    claims = refresh(session)
    results = in_parallel(*[lambda: str(RefreshToken.of(sessions.rotate(claims)))] * THREADS)
    assert len(set(results)) == 1, results
    assert isinstance(results[0], str)
    assert Session.objects.get().generation == 1


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_parallel_use_and_late_retry_are_never_both_accepted(session: Session, _round: int) -> None:
    first = refresh(session)
    used = access(rotated(session))
    age(session)
    use, retry = in_parallel(lambda: sessions.accept(used), lambda: sessions.rotate(first))
    assert isinstance(use, TokenRefused) or isinstance(retry, TokenRefused)


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_no_refresh_succeeds_after_an_acknowledged_logout(session: Session, _round: int) -> None:
    claims = refresh(session)

    def log_out() -> None:
        sessions.revoke(session, Reason.LOGOUT)
        with pytest.raises(TokenRevoked):
            sessions.rotate(claims)

    results = in_parallel(log_out, *[lambda: sessions.rotate(claims)] * (THREADS - 1))
    assert results[0] is None
    assert Counter(type(result) for result in results[1:]).keys() <= {Session, TokenRevoked}
    assert Session.objects.get().revoked_reason == Reason.LOGOUT


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_cap_holds_under_parallel_logins(ann: Any, settings: Settings, _round: int) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 3
    results = in_parallel(*[lambda: sessions.start(ann)] * THREADS)
    assert all(isinstance(result, Session) for result in results), results
    assert Session.objects.live().count() == 3


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_parallel_revoke_all_ends_each_session_once(ann: Any, _round: int) -> None:
    for _ in range(THREADS):
        sessions.start(ann)
    results = in_parallel(*[lambda: sessions.revoke_all(ann, Reason.LOGOUT_ALL)] * 4)
    assert sorted(results) == [0, 0, 0, THREADS]
    assert SecurityEvent.objects.filter(kind="logout").count() == THREADS


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_parallel_failed_logins_are_all_counted_in_one_row(ann: Any, _round: int) -> None:
    results = in_parallel(*[lambda: authenticate(username="ann", password="wrong")] * THREADS)
    assert results == [None] * THREADS
    assert SecurityEvent.objects.get().count == THREADS
