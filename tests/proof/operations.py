"""The operations on a session that the explorer combines, as the views do them, and the states in which they begin."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from accounts.owner import password
from tests.proof.schedules import next_part
from tokens.domain import sessions
from tokens.domain.sessions import Prove, unproven
from tokens.models import Reason, SecurityEvent, Session, uuid7
from tokens.tokens import AccessToken, RefreshToken

PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "quite another horse"
CAP = 2
"""The most sessions of a user: as many as a scene begins with."""

KEY = "the key of the scene"
"""The key to which its sessions are bound, if they are."""

OLD, EXCHANGED, NEWEST = 0, 1, 2
"""The generations of the scene's session."""

AGES = {"young": timedelta(seconds=1), "late": timedelta(seconds=11), "expired": timedelta(seconds=11)}
"""How long ago the session was rotated, by the state: within the grace period, after it, and with the row past its
end while the tokens were still verified before it."""


@dataclass
class Scene:
    """One user with two sessions: `main`, the subject of the operations, and `other`."""

    user: User
    main: Session
    other: Session

    @classmethod
    def lay(cls, state: str, password: str, jkt: str = "") -> "Scene":
        """Create a new one, alone in the database."""
        cls.clear()
        (scene,) = cls.lay_all(state, password, {"ann": jkt})
        return scene

    @classmethod
    def lay_all(cls, state: str, password: str, names: Mapping[str, str]) -> list["Scene"]:
        """Create one for each named user. Its sessions are bound to the key beside the name, if there is one."""
        now = timezone.now()
        users = [User(username=name, username_key=name, email="", password=password) for name in names]
        User.objects.bulk_create(users)
        scenes = [cls._of(user, state, now, names[user.username]) for user in users]
        Session.objects.bulk_create([session for scene in scenes for session in (scene.main, scene.other)])
        return scenes

    @classmethod
    def _of(cls, user: User, state: str, now: datetime, jkt: str) -> "Scene":
        common = {
            "user": user,
            "jkt": jkt,
            "created_at": now - timedelta(days=1),
            "auth_hash": user.get_session_auth_hash(),
            "generation": NEWEST,
            "predecessor": EXCHANGED,
        }
        ends = now if state == "expired" else now + timedelta(days=6)
        main = Session(
            **common,
            id=uuid7(now - timedelta(days=1)),
            confirmed=False,
            rotated_at=now - AGES[state],
            expires_at=ends.replace(microsecond=0),
        )
        other = Session(
            **common,
            id=uuid7(now - timedelta(hours=1)),
            rotated_at=now - timedelta(milliseconds=1),
            expires_at=now + timedelta(days=6),
        )
        return cls(user, main, other)

    @staticmethod
    def clear() -> None:
        for rows in (SecurityEvent.objects.all(), Session.objects.all(), User.objects.all()):
            rows._raw_delete(rows.db)

    def refresh_claims(self, generation: int) -> dict[str, Any]:
        return dict(RefreshToken.of(at(self.main, generation)).payload)

    def access_claims(self, session: Session, generation: int = NEWEST) -> dict[str, Any]:
        return AccessToken.of(at(session, generation)).payload


def at(session: Session, generation: int) -> Session:
    """Return the session as it is, or was, at that generation."""
    session = copy(session)
    session.groups = []
    session.generation = generation
    return session


def holding_the_key(jkt: str) -> None:
    """Prove the key of the scene's sessions, if they are bound to it."""
    assert jkt == KEY


def refresh(generation: int, scene: Scene, prove: Prove = holding_the_key) -> Callable[[], Any]:
    claims = scene.refresh_claims(generation)

    def act() -> int:
        return sessions.rotate(claims, prove=prove).generation

    return act


def refresh_in_a_transaction(scene: Scene) -> Callable[[], Any]:
    """As with ATOMIC_REQUESTS: another operation finds the row locked, and waits for what becomes of it."""
    return transaction.atomic(refresh(NEWEST, scene))


def use(scene: Scene, prove: Prove = holding_the_key) -> Callable[[], Any]:
    claims = scene.access_claims(scene.main)

    def act() -> str:
        sessions.accept(claims, prove=prove)
        return "let in"

    return act


def log_out(scene: Scene) -> Callable[[], Any]:
    claims, cookie = scene.access_claims(scene.main), scene.refresh_claims(NEWEST)

    def act() -> None:
        session = sessions.accept(claims, prove=holding_the_key, confirm=False)
        next_part()
        assert sessions.belongs(cookie, session)
        sessions.revoke(session, Reason.LOGOUT)

    return act


def log_out_all(scene: Scene) -> Callable[[], Any]:
    claims = scene.access_claims(scene.main)

    def act() -> None:
        user = sessions.accept(claims, prove=holding_the_key).user
        next_part()
        sessions.revoke_all(user, Reason.LOGOUT_ALL)

    return act


def revoke_others(scene: Scene) -> Callable[[], Any]:
    claims = scene.access_claims(scene.other)

    def act() -> None:
        session = sessions.accept(claims, prove=holding_the_key)
        next_part()
        sessions.revoke_others(session, Reason.REVOKED)

    return act


def change_password(where: str, scene: Scene) -> Callable[[], Any]:
    claims = scene.access_claims(getattr(scene, where))

    def act() -> int:
        session = sessions.accept(claims, prove=holding_the_key, confirm=False)
        next_part()
        return password.change_password(session, PASSWORD, NEW_PASSWORD).generation

    return act


def set_password(scene: Scene) -> Callable[[], Any]:
    """As the admin and the shell do it."""

    def act() -> None:
        user = User.objects.get(pk=scene.user.pk)
        next_part()
        user.set_password(NEW_PASSWORD)
        user.save()

    return act


def deactivate(scene: Scene) -> Callable[[], Any]:
    @transaction.atomic
    def act() -> None:
        user = User.objects.select_for_update(no_key=True).get(pk=scene.user.pk)
        user.is_active = False
        user.save()

    return act


def log_in(scene: Scene) -> Callable[[], Any]:
    def act() -> str:
        user = User.objects.get(pk=scene.user.pk)
        next_part()
        sessions.start(user)
        return "signed in"

    return act


def fail_to_log_in(scene: Scene) -> Callable[[], Any]:
    def act() -> None:
        assert authenticate(username="ann", password="wrong") is None

    return act


def prune(scene: Scene) -> Callable[[], Any]:
    return partial(call_command, "flushexpiredtokens", verbosity=0)


def delete_user(scene: Scene) -> Callable[[], Any]:
    def act() -> None:
        user = User.objects.get(pk=scene.user.pk)
        next_part()
        user.delete()

    return act


OPERATIONS: dict[str, Callable[[Scene], Callable[[], Any]]] = {
    "refresh": partial(refresh, NEWEST),
    "refresh in a transaction": refresh_in_a_transaction,
    "retry": partial(refresh, EXCHANGED),
    "refresh with an old token": partial(refresh, OLD),
    "use of an access token": use,
    "logout": log_out,
    "logout everywhere": log_out_all,
    "logout of the others": revoke_others,
    "password change here": partial(change_password, "main"),
    "password change elsewhere": partial(change_password, "other"),
    "password change in the admin": set_password,
    "deactivation": deactivate,
    "login that evicts": log_in,
    "failed login": fail_to_log_in,
    "prune": prune,
    "deletion of the user": delete_user,
}

THEFTS: dict[str, Callable[[Scene], Callable[[], Any]]] = {
    "refresh without the key": partial(refresh, NEWEST, prove=unproven),
    "use without the key": partial(use, prove=unproven),
}
"""What a thief tries with the tokens of a bound session, but without its key."""

USES = {"refresh", "refresh in a transaction", "retry", "use of an access token"}
"""What an honest client does all the time."""

ENDS = {
    "logout",
    "logout everywhere",
    "logout of the others",
    "password change here",
    "password change elsewhere",
    "password change in the admin",
    "deactivation",
    "login that evicts",
    "deletion of the user",
}
"""Once one of these is acknowledged, no token of `main` is accepted any more."""


def hashed() -> str:
    return make_password(PASSWORD)
