"""Breaks each behaviour that matters, where a named test has to fail.

A guarantee counts only if a test fails without it. `make proof` tries all of them. `make test` checks that each still
applies.

A mutation names a function, a method, a property or a constant by its dotted path, and what takes its place while one
test runs. Nothing here depends on how a line is written, so code can be rewritten as long as it keeps these names.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from importlib import import_module
from inspect import getattr_static, signature
from typing import Any
from unittest.mock import patch

from django.db import transaction

from tests.server import ROOT
from tokens.domain.sessions import PRUNED_AT_LOGIN
from tokens.exceptions import TokenNotValid, TokenReused
from tokens.models import Reason, Session, SessionQuerySet, User

PACKAGES = {"accounts", "api", "config", "tests", "tokens"}
TIMEOUT = 300  # seconds

Function = Callable[..., Any]


@dataclass(frozen=True)
class Mutation:
    guarantee: str
    """The guarantee that depends on the behaviour."""

    path: str
    """The behaviour: the dotted path of what has it."""

    broken: Callable[[Any], Any]
    """Returns what takes its place. Raises an error if it would change nothing."""

    test: str
    """The test that has to fail, or the file."""

    database: str = "sqlite"

    @property
    def place(self) -> tuple[Any, str]:
        """The module or the class, and the name in it. Raises ImportError or AttributeError if there is none."""
        home, _, name = self.path.rpartition(".")
        try:
            holder: Any = import_module(home)
        except ModuleNotFoundError:
            module, _, kind = home.rpartition(".")
            holder = getattr(import_module(module), kind)
        return holder, name

    @property
    def original(self) -> Any:
        return getattr_static(*self.place)

    def apply(self) -> None:
        """Break the behaviour in this process, under every name that a module of the project has for it."""
        holder, name = self.place
        original = self.original
        broken = self.broken(original)
        setattr(holder, name, broken)
        modules = [module for path, module in sys.modules.items() if path.partition(".")[0] in PACKAGES]
        for module in modules:
            for alias, value in list(vars(module).items()):
                # Equal numbers can be one object, so only a function may have another name.
                if value is original and (callable(original) or alias == name):
                    setattr(module, alias, broken)


def always(value: object) -> Callable[[Function], Function]:
    """Give that answer, and do nothing."""

    def breaking(function: Function) -> Function:
        @wraps(function)
        def broken(*args: Any, **kwargs: Any) -> object:
            return value

        return broken

    return breaking


def never(_: property) -> property:
    """Let the property be false."""
    return property(lambda _: False)


def constant(value: object) -> Callable[[object], object]:
    return lambda _: value


def without(name: str) -> Callable[[Function], Function]:
    """Leave out that argument, so that its default holds."""

    def breaking(function: Function) -> Function:
        parameters = signature(function)
        if parameters.parameters[name].default is parameters.empty:
            raise ValueError(f"{name} has no default")

        @wraps(function)
        def broken(*args: Any, **kwargs: Any) -> Any:
            given = parameters.bind(*args, **kwargs)
            given.arguments.pop(name, None)
            return function(*given.args, **given.kwargs)

        return broken

    return breaking


def forgetting(column: str) -> Callable[[Function], Function]:
    """Leave out that column of the state that the statement names."""

    def breaking(function: Function) -> Function:
        Session._meta.get_field(column)
        kinds = [parameter.kind for parameter in signature(function).parameters.values()]
        if kinds[-1] is not kinds[-1].VAR_KEYWORD:
            raise ValueError("the function takes no state")

        @wraps(function)
        def broken(*args: Any, **state: Any) -> Any:
            state.pop(column, None)
            return function(*args, **state)

        return broken

    return breaking


def with_negative_ages(_: Function) -> Function:
    def _age(session: Session, now: datetime) -> Any:
        return now - session.rotated_at

    return _age


def as_if_rotated(decide: Function) -> Function:
    """Treat the token from a login like one from a rotation."""

    @wraps(decide)
    def broken(session: Session, generation: int, *args: Any, **kwargs: Any) -> Any:
        if generation == session.generation == 0:
            session = copy(session)
            session.generation = generation = 1
        return decide(session, generation, *args, **kwargs)

    return broken


def as_if_not_exposed(decide: Function) -> Function:
    """Decide as if nobody had looked up a token that was given up."""
    Session._meta.get_field("exposed")

    @wraps(decide)
    def broken(session: Session, *args: Any, **kwargs: Any) -> Any:
        session = copy(session)
        session.exposed = False
        return decide(session, *args, **kwargs)

    return broken


def telling_the_newest(introspect: Function) -> Function:
    """Refuse every token but the newest."""

    @wraps(introspect)
    def broken(claims: Mapping[str, Any]) -> Session:
        session: Session = introspect(claims)
        if claims["generation"] != session.generation:
            raise TokenNotValid
        return session

    return broken


def keeping_the_secret(succeed: Function) -> Function:
    @wraps(succeed)
    def broken(session: Session, *args: Any, **kwargs: Any) -> Session:
        successor: Session = succeed(session, *args, **kwargs)
        successor.secret = session.secret
        successor.save(update_fields=["secret"])
        return successor

    return broken


def believing_the_token(get: Function) -> Function:
    """Take whatever user the token names for the session's."""

    @wraps(get)
    def broken(claims: Mapping[str, Any], **kwargs: Any) -> Session:
        user = Session.objects.filter(pk=claims["sid"]).values_list("user_id", flat=True).first()
        session: Session = get({**claims, "sub": str(user)}, **kwargs)
        return session

    return broken


def seeing_everybody_active(read: Function) -> Function:
    @wraps(read)
    def broken(*args: Any, **kwargs: Any) -> Session | None:
        session: Session | None = read(*args, **kwargs)
        if session is not None:
            session.user.is_active = True
        return session

    return broken


def undone_by_the_refusal(revoke: Function) -> Function:
    """Refuse within the transaction that ends the session."""

    @wraps(revoke)
    def broken(session: Session, reason: Reason, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic():
            did = revoke(session, reason, *args, **kwargs)
            if reason == Reason.REUSED:
                raise TokenReused
        return did

    return broken


def without_a_lock(rows: Function) -> Function:
    if not rows().query.select_for_update:
        raise ValueError("nothing is locked")

    @wraps(rows)
    def broken() -> Any:
        unlocked = rows()
        unlocked.query.select_for_update = False
        return unlocked

    return broken


def with_the_check_alone(active: Function) -> Function:
    @wraps(active)
    def broken(*args: Any) -> Any:
        lock, is_active = active(*args)
        return lock._replace(sql=lock.sql.partition(" FOR ")[0]), is_active

    return broken


def of_the_user_as_given(revoke_all: Function) -> Function:
    """Look for sessions with the caller's copy of the user, which may have a former password."""
    of = SessionQuerySet.of

    @wraps(revoke_all)
    def broken(user: User, *args: Any, **kwargs: Any) -> Any:
        with patch.object(SessionQuerySet, "of", lambda rows, _: of(rows, user)):
            return revoke_all(user, *args, **kwargs)

    return broken


def without_a_second_look(_: Function) -> Function:
    """Delete by their keys what had expired a moment ago."""

    def _prune(user: User) -> None:
        expired = Session.objects.filter(user_id=user.pk).expired().order_by("pk")[:PRUNED_AT_LOGIN]
        Session.objects.filter(pk__in=[session.pk for session in expired]).delete()

    return _prune


def a_century_later(ends_at: Function) -> Function:
    @wraps(ends_at)
    def broken(session: Session) -> Any:
        return ends_at(session) + timedelta(days=36_500)

    return broken


RACES = "tests/tokens/test_races.py::"
ROTATION = "tests/tokens/test_rotation.py::"
VIEWS = "tests/tokens/test_views.py::"

MUTATIONS = (
    Mutation(
        "Tokens that are bound to a key are worth nothing without it",
        "tokens.domain.sessions._check_key",
        always(None),
        "tests/tokens/test_bound_sessions.py::test_bound_token_without_a_proof_is_refused",
    ),
    Mutation(
        "Only one of two simultaneous refreshes rotates",
        "tokens.domain.writing.update",
        forgetting("generation"),
        RACES + "test_loser_of_a_race_does_not_undo_later_changes",
    ),
    Mutation(
        "A refresh in progress does not outlive a logout",
        "tokens.domain.writing.NOT_REVOKED",
        constant("TRUE"),
        RACES + "test_revocation_beats_a_rotation_in_progress",
    ),
    Mutation(
        "A late retry is refused if the token that it gives up has just been used",
        "tokens.domain.writing.update",
        forgetting("confirmed"),
        RACES + "test_use_beats_a_late_retry_in_progress",
    ),
    Mutation(
        "The use of a token is refused if a late retry has just given it up",
        "tokens.domain.writing.update",
        forgetting("generation"),
        RACES + "test_late_retry_beats_a_use_in_progress",
    ),
    Mutation(
        "A use in progress does not outlive a logout",
        "tokens.domain.writing.NOT_REVOKED",
        constant("TRUE"),
        RACES + "test_revocation_beats_a_use_in_progress",
    ),
    Mutation(
        "A clock that is behind does not make a token younger or older",
        "tokens.domain.rotation._age",
        with_negative_ages,
        ROTATION + "test_server_clock_behind_still_rotates_without_a_grace_period",
    ),
    Mutation(
        "The token from a login is rotated, not given back",
        "tokens.domain.rotation.decide",
        as_if_rotated,
        ROTATION + "test_login_token_rotates_at_its_first_use",
    ),
    Mutation(
        "Without a grace period, parallel use is reuse",
        "tokens.domain.rotation.decide",
        without("raced"),
        RACES + "test_loser_of_a_race_without_a_grace_period_is_reuse",
    ),
    Mutation(
        "A token can be retried late at most three times",
        "tokens.domain.rotation.LATE_RETRIES",
        constant(4),
        ROTATION + "test_three_late_retries_are_accepted_and_a_fourth_is_reuse",
    ),
    Mutation(
        "Using a token that was given up is reuse",
        "tokens.domain.rotation.given_up",
        always(False),
        ROTATION + "test_access_token_given_up_by_a_late_retry_is_reuse",
    ),
    Mutation(
        "Polling does not reveal the moment of a refresh",
        "tokens.domain.sessions.introspect",
        telling_the_newest,
        "tests/proof/test_attackers.py::test_thief_who_polls_verify_learns_of_a_refresh_too_late",
    ),
    Mutation(
        "Polling a token that a late retry gave up gains nothing",
        "tokens.domain.rotation.decide",
        as_if_not_exposed,
        "tests/proof/test_attackers.py::test_thief_who_polls_a_given_up_token_gains_nothing",
    ),
    Mutation(
        "A copied token is useless after a password change",
        "tokens.domain.sessions.succeed",
        keeping_the_secret,
        "tests/accounts/test_views.py::test_session_after_a_password_change_keeps_its_properties",
    ),
    Mutation(
        "The signing key alone can't create a refresh token: the row's secret is needed too",
        "tokens.domain.sessions._is_genuine",
        always(True),
        "tests/tokens/test_attacks.py",
    ),
    Mutation(
        "The session's row, not the token, says who the user is",
        "tokens.domain.sessions._get",
        believing_the_token,
        "tests/tokens/test_attacks.py::test_signing_key_alone_does_not_open_a_session",
    ),
    Mutation(
        "A deactivation takes effect on the next request",
        "tokens.domain.reading.read",
        seeing_everybody_active,
        VIEWS + "test_deactivation_without_a_signal_works_on_the_next_request",
    ),
    Mutation(
        "A password changed by any route ends every session",
        "tokens.models.Session.password_changed",
        never,
        VIEWS + "test_password_change_by_any_route_ends_sessions",
    ),
    Mutation(
        "The end of a reused session is committed even though the request fails",
        "tokens.domain.sessions.revoke",
        undone_by_the_refusal,
        ROTATION + "test_older_token_is_reuse_and_ends_the_session",
    ),
    Mutation(
        "Parallel logins respect the maximum number of sessions",
        "tokens.domain.reading._locked_users",
        without_a_lock,
        RACES + "test_cap_holds_under_parallel_logins",
        database="postgresql",
    ),
    Mutation(
        "Parallel logins respect the maximum number of sessions even if each login is sent as one message",
        "tokens.domain.reading.active",
        with_the_check_alone,
        RACES + "test_cap_holds_with_a_login_in_progress",
        database="postgresql",
    ),
    Mutation(
        "Logout everywhere ends a session that a simultaneous password change started",
        "tokens.domain.sessions.revoke_all",
        of_the_user_as_given,
        RACES + "test_revoking_all_reaches_a_session_started_by_a_parallel_password_change",
    ),
    Mutation(
        "Logout everywhere ends a session that a refresh renews as it expires",
        "tokens.models.SessionQuerySet.live",
        without("leeway"),
        RACES + "test_revoking_all_reaches_a_session_with_a_refresh_in_progress",
    ),
    Mutation(
        "A login deletes no session that a refresh renews as it expires",
        "tokens.domain.sessions._prune",
        without_a_second_look,
        RACES + "test_login_keeps_a_session_with_a_refresh_in_progress",
        database="postgresql",
    ),
    Mutation(
        "No rotation extends a session beyond its maximum lifetime",
        "tokens.models.Session.ends_at",
        a_century_later,
        ROTATION + "test_rotation_moves_the_idle_end_but_not_the_absolute_end",
    ),
)


def named(guarantee: str) -> Mutation:
    (mutation,) = (mutation for mutation in MUTATIONS if mutation.guarantee == guarantee)
    return mutation


def is_noticed(mutation: Mutation) -> bool:
    """Break the behaviour in a run of its test, and return whether that fails."""
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"TEST_DATABASE": mutation.database, "BROKEN_GUARANTEE": mutation.guarantee}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.proof.breaking", mutation.test],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutation.test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1
