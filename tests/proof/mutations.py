"""Breaks each line that matters in a copy of the project, where a named test has to fail.

A guarantee counts only if a test fails without it. `make proof` tries all of them. `make test` checks that each still
applies.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.server import ROOT

PARTS = ("accounts", "api", "config", "templates", "tests", "tokens", "manage.py", "pyproject.toml", ".env.example")
TIMEOUT = 300  # seconds


@dataclass(frozen=True)
class Mutation:
    guarantee: str
    """The guarantee that depends on the line."""

    line: str
    instead: str
    test: str
    """The test that has to fail, or the common beginning of several."""

    file: str = "tokens/domain/sessions.py"
    database: str = "sqlite"

    def apply(self, root: Path) -> None:
        """Change the copy. Raises ValueError unless the line is there exactly once."""
        path = root / self.file
        source = path.read_text()
        if source.count(self.line) != 1:
            raise ValueError(f"{self.file} has {source.count(self.line)} times: {self.line}")
        path.write_text(source.replace(self.line, self.instead))


RACES = "tests/tokens/test_races.py::"
ROTATION = "tests/tokens/test_rotation.py::"
VIEWS = "tests/tokens/test_views.py::"

TABLE = "tokens/domain/rotation.py"
WRITING = "tokens/domain/writing.py"

MUTATIONS = (
    Mutation(
        "Tokens that are bound to a key are worth nothing without it",
        "    if not session.jkt:\n",
        "    if session.jkt:\n",
        "tests/tokens/test_bound_sessions.py::test_bound_token_without_a_proof_is_refused",
    ),
    Mutation(
        "Only one of two simultaneous refreshes rotates",
        'state = {"generation": session.generation}',
        "state = {}",
        RACES + "test_loser_of_a_race_does_not_undo_later_changes",
    ),
    Mutation(
        "A refresh in progress does not outlive a logout",
        ' AND "revoked_at" IS NULL\'',
        "'",
        RACES + "test_revocation_beats_a_rotation_in_progress",
        file=WRITING,
    ),
    Mutation(
        "A late retry and a use of the token that it gives up are not both accepted: the retry notices the use",
        'state["confirmed"] = False',
        "pass",
        RACES + "test_use_beats_a_late_retry_in_progress",
    ),
    Mutation(
        "... and the use notices the retry",
        '{"confirmed": True}, generation=session.generation)',
        '{"confirmed": True})',
        RACES + "test_late_retry_beats_a_use_in_progress",
    ),
    Mutation(
        "A use in progress does not outlive a logout",
        ' AND "revoked_at" IS NULL\'',
        "'",
        RACES + "test_revocation_beats_a_use_in_progress",
        file=WRITING,
    ),
    Mutation(
        "A clock that is behind does not make a token younger or older",
        "return timedelta.max if ahead > CLOCK_SKEW else max(-ahead, timedelta())",
        "return timedelta.max if ahead > CLOCK_SKEW else -ahead",
        ROTATION + "test_server_clock_behind_still_rotates_without_a_grace_period",
        file=TABLE,
    ),
    Mutation(
        "The token from a login is rotated, not given back",
        "generation > 0 and age < grace",
        "age < grace",
        ROTATION + "test_login_token_rotates_at_its_first_use",
        file=TABLE,
    ),
    Mutation(
        "Without a grace period, parallel use is reuse",
        "late = conf.late_retry and not session.confirmed and (grace or not raced)",
        "late = conf.late_retry and not session.confirmed",
        RACES + "test_loser_of_a_race_without_a_grace_period_is_reuse",
        file=TABLE,
    ),
    Mutation(
        "A token can be retried late at most three times",
        "LATE_RETRIES = 3",
        "LATE_RETRIES = 4",
        ROTATION + "test_three_late_retries_are_accepted_and_a_fourth_is_reuse",
        file=TABLE,
    ),
    Mutation(
        "Using a token that was given up is reuse",
        "return session.predecessor < generation < session.generation",
        "return False",
        ROTATION + "test_access_token_given_up_by_a_late_retry_is_reuse",
        file=TABLE,
    ),
    Mutation(
        "Polling does not reveal the moment of a refresh",
        "is_good = judge(session, generation, times.now()) is not Step.END",
        "is_good = generation == session.generation",
        "tests/proof/test_attackers.py::test_thief_who_polls_verify_learns_of_a_refresh_too_late",
    ),
    Mutation(
        "... and revealing the moment of a late retry gains nothing",
        "if generation == session.predecessor and not session.exposed:",
        "if generation == session.predecessor:",
        "tests/proof/test_attackers.py::test_thief_who_polls_a_given_up_token_gains_nothing",
        file=TABLE,
    ),
    Mutation(
        "A copy is useless after a password change",
        "successor.pk, successor.user, successor.secret = uuid7(), cast(Any, user), new_secret()",
        "successor.pk, successor.user, successor.secret = uuid7(), cast(Any, user), session.secret",
        "tests/accounts/test_views.py::test_session_after_a_password_change_keeps_its_properties",
    ),
    Mutation(
        "The signing key alone can't create a refresh token: the row's secret is needed too",
        'return constant_time_compare(claims["jti"], session.jti(claims["generation"]))',
        "return True",
        "tests/tokens/test_attacks.py",
    ),
    Mutation(
        "The user comes from the row",
        'if claims["sub"] != str(session.user_id):',
        "if False:",
        "tests/tokens/test_attacks.py::test_signing_key_alone_does_not_open_a_session",
    ),
    Mutation(
        "A deactivation takes effect on the next request",
        "if session.revoked_at is not None or not user.is_active or session.password_changed:",
        "if session.revoked_at is not None or session.password_changed:",
        VIEWS + "test_deactivation_without_a_signal_works_on_the_next_request",
    ),
    Mutation(
        "A password changed by any route ends every session",
        "if session.revoked_at is not None or not user.is_active or session.password_changed:",
        "if session.revoked_at is not None or not user.is_active:",
        VIEWS + "test_password_change_by_any_route_ends_sessions",
    ),
    Mutation(
        "The end of a reused session is committed even though the request fails",
        "    signals.sessions_revoked.send(Session, sessions=sessions, reason=reason, client=client)\n",
        "    signals.sessions_revoked.send(Session, sessions=sessions, reason=reason, client=client)\n"
        "    if reason == Reason.REUSED:\n"
        "        raise TokenReused\n",
        ROTATION + "test_older_token_is_reuse_and_ends_the_session",
    ),
    Mutation(
        "Parallel logins respect the maximum number of sessions",
        "get_user_model()._base_manager.select_for_update(no_key=True), ",
        "get_user_model()._base_manager.all(), ",
        RACES + "test_cap_holds_under_parallel_logins",
        file="tokens/domain/reading.py",
        database="postgresql",
    ),
    Mutation(
        "Logout everywhere ends a session that a simultaneous password change started",
        "ended = _sessions().live(times.CLOCK_SKEW).of(current)",
        "ended = _sessions().live(times.CLOCK_SKEW).of(user)",
        RACES + "test_revoking_all_reaches_a_session_started_by_a_parallel_password_change",
    ),
    Mutation(
        "... and one that a refresh renews as it expires",
        "ended = _sessions().live(times.CLOCK_SKEW).of(current)",
        "ended = _sessions().live().of(current)",
        RACES + "test_revoking_all_reaches_a_session_with_a_refresh_in_progress",
    ),
    Mutation(
        "A login deletes no session that a refresh renews as it expires",
        "_sessions().filter(pk__in=expired).expired().delete()",
        "_sessions().filter(pk__in=expired).delete()",
        RACES + "test_login_keeps_a_session_with_a_refresh_in_progress",
        database="postgresql",
    ),
    Mutation(
        "No rotation extends a session beyond its maximum lifetime",
        "return min(issued_at + conf.refresh_token_lifetime, self.ends_at()).replace(microsecond=0)",
        "return (issued_at + conf.refresh_token_lifetime).replace(microsecond=0)",
        ROTATION + "test_rotation_moves_the_idle_end_but_not_the_absolute_end",
        file="tokens/models.py",
    ),
)


def is_noticed(mutation: Mutation, folder: Path) -> bool:
    """Break the line in a copy of the project, and return whether its test fails there."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    mutation.apply(folder)
    names = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"TEST_DATABASE": mutation.database, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", mutation.test]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mutation.test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1
