"""Signing in: a name and a password become a session, with a second factor where the account has one.

`authenticate` is the one way from a password to a user; `sign_in` then begins the session. If they raise
SecondFactorRequired, the client continues with `answer`.
"""

import hashlib
import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pkgutil import resolve_name
from time import time_ns
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.signals import user_login_failed
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils.functional import Promise

from .. import kinds, times
from ..conf import conf
from ..exceptions import (
    ChallengeNotValid,
    InvalidCredentials,
    KeyMismatch,
    NoActiveAccount,
    NotExchangeable,
    SecondFactorRequired,
    TokenRefused,
    TooManyTries,
)
from ..models import SecurityEvent, Session, User, fingerprints, uuid7
from . import limits, sessions, users
from .client import UNKNOWN, Client
from .sessions import PASSWORD, Claims

logger = logging.getLogger(__name__)

IDENTIFIER_LENGTH = 320
"""Characters: the longest that an email address can be."""

PASSWORD_LENGTH = 4096

CHALLENGE_LIFETIME = timedelta(minutes=5)
SALT = "latchkey.challenge"

FACTORS = frozenset(
    {"face", "fpt", "hwk", "iris", "mca", "mfa", "otp", "pin", "pop", "retina", "sc", "sms", "swk", "tel", "vbm"}
)
"""The methods of RFC 8176 that prove more than a password or another service's word."""

UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)
"""The errors of Django's hashers for a hash that is malformed, or whose package is missing."""

AMR, SINCE = "amr", "since"
"""The entries of a challenge for a first step that was taken elsewhere: how, and when."""

Answer = Mapping[str, Any]
"""What a client sends as its second factor, as it stands on the wire: `{"code": "123456"}`."""


ClaimsFor = Callable[[Any], str]
"""Returns what the project adds to a user's tokens, as JSON. Called once the user may sign in."""


@dataclass(frozen=True)
class Terms:
    """What the first step settles about the session. A challenge carries it to the second step."""

    remembered: bool = True
    device_name: str = ""
    jkt: str = ""
    """The thumbprint of the key to which the session is bound; empty for none."""

    extras: Mapping[str, str] = field(default_factory=dict)
    """Anything else to carry, by name."""

    @property
    def authenticated_at(self) -> datetime | None:
        """The time of the first step, if it was taken elsewhere."""
        return datetime.fromisoformat(self.extras[SINCE]) if SINCE in self.extras else None

    def amr(self, methods: Sequence[str]) -> Sequence[str]:
        """Return how the user signed in by both steps. A first step elsewhere was not by the password."""
        if AMR not in self.extras:
            return methods
        both = [*self.extras[AMR].split(), *(method for method in methods if method not in PASSWORD)]
        return tuple(dict.fromkeys(both if names_factor(both) else [*both, "mfa"]))


class SecondFactors(Protocol):
    """What TOKENS_SECOND_FACTOR names: a module or an object with these functions."""

    def methods(self, user: Any) -> Sequence[str] | None:
        """Name the methods that the user can answer a challenge with; None if the password is enough."""
        ...

    def options(self, user: Any, challenge: str) -> Mapping[str, Any]:
        """Return what the client needs for its answer, beside the challenge and the names of the methods."""
        ...

    def verify(self, user: Any, answer: Answer, client: Client) -> Sequence[str]:
        """Use the answer up, and return how the user has signed in (RFC 8176), the password included.

        Raises AnswerNotValid or TooManyTries.
        """
        ...


def sign_in(
    username: str,
    password: str,
    client: Client = UNKNOWN,
    terms: Terms | None = None,
    *,
    answer: Answer | None = None,
    former: Claims | None = None,
    request: Any = None,
    username_field: str | None = None,
    claims_for: ClaimsFor | None = None,
) -> Session:
    """Begin a session for the user with that name and password.

    `former` has the verified claims of the refresh token in the request, if there is one; its session, if alive, ends.
    `request` is only passed on to Django's authentication backends. `username_field` is the backends' word for the
    username, if it differs from the user model's. Raises InvalidCredentials, TooManyTries and, only after a right
    password, SecondFactorRequired or AnswerNotValid.
    """
    terms = terms or Terms()
    user, amr = authenticate(
        username, password, client, terms, answer=answer, request=request, username_field=username_field
    )
    try:
        return start(user, client, terms, amr, claims_for, former=former)
    except NoActiveAccount as error:
        raise InvalidCredentials from error


def authenticate(
    username: str,
    password: str,
    client: Client = UNKNOWN,
    terms: Terms | None = None,
    *,
    answer: Answer | None = None,
    request: Any = None,
    username_field: str | None = None,
) -> tuple[Any, Sequence[str]]:
    """Return the user with that name and password, and how the user has signed in (RFC 8176); no session begins.

    Raises as `sign_in` does.
    """
    user = _authenticate_by_password(username, password, client, request, username_field)
    if not sessions.may_sign_in(user):
        raise InvalidCredentials
    factors = _second_factors()
    methods = factors.methods(user) if factors else None
    if factors is None or methods is None:
        return user, PASSWORD
    if answer is None:
        challenge = _issue(user, terms or Terms())
        raise SecondFactorRequired(challenge, methods, factors.options(user, challenge))
    return user, factors.verify(user, answer, client)


def answer(
    challenge: str,
    given: Answer,
    client: Client = UNKNOWN,
    claims_for: ClaimsFor | None = None,
    *,
    jkt: str = "",
    former: Claims | None = None,
) -> Session:
    """Begin the session of a login that got a challenge. `jkt` is the thumbprint of the key that the client has proved.

    A challenge opens one session, even under parallel tries. Until then, and until it expires, it can be tried as often
    as the limits allow. Raises ChallengeNotValid, AnswerNotValid, TooManyTries or, if the first step proved another
    key, KeyMismatch.
    """
    (user, terms, pk), amr = verify_answer(challenge, given, client, jkt=jkt)
    try:
        return start(user, client, terms, amr, claims_for, former=former, pk=pk)
    except (NoActiveAccount, IntegrityError) as error:  # an IntegrityError: a parallel try has just opened the session
        raise ChallengeNotValid from error


def verify_answer(
    challenge: str, given: Answer, client: Client = UNKNOWN, *, jkt: str | None = None
) -> tuple["Opened", Sequence[str]]:
    """Return the challenge's content, and how the user signed in (RFC 8176). No session begins.

    `jkt` is the thumbprint of the key that the client has proved, empty for none. None is for pages, whose sessions are
    not bound to a key. Raises as `answer` does.
    """
    factors = _second_factors()
    opened = _open(challenge)
    if opened.terms.jkt != (jkt or ""):
        raise KeyMismatch
    # Checked before the answer is used up. A challenge without a key may be older than the setting that requires one.
    unbound = conf.dpop == "required" and jkt == ""
    if (
        factors is None
        or unbound
        or not sessions.may_sign_in(opened.user)
        or factors.methods(opened.user) is None
        or sessions.exists(opened.session)
    ):
        raise ChallengeNotValid
    return opened, opened.terms.amr(factors.verify(opened.user, {**given, "challenge": challenge}, client))


def exchange(
    user: User,
    client: Client,
    terms: Terms,
    amr: Sequence[str],
    claims_for: ClaimsFor | None = None,
    *,
    since: datetime,
    pk: UUID,
    former: Claims | None = None,
) -> Session:
    """Begin a session for a user who signed in elsewhere in this project, at that time and by those methods.

    `pk` is the key of the session, so one sign-in begins at most one session, even under parallel requests. Raises
    NotExchangeable if there was one already or the user may not sign in, and SecondFactorRequired if the account has a
    second factor and the methods name none.
    """
    terms = replace(terms, extras={AMR: " ".join(amr), SINCE: since.isoformat()})
    factors = _second_factors()
    methods = factors.methods(user) if factors and not names_factor(amr) else None
    if factors and methods is not None and sessions.may_sign_in(user):
        challenge = _issue(user, terms, pk)
        raise SecondFactorRequired(challenge, methods, factors.options(user, challenge))
    try:
        return start(user, client, terms, amr, claims_for, former=former, pk=pk)
    except (NoActiveAccount, IntegrityError) as error:
        raise NotExchangeable from error


def names_factor(amr: Iterable[str]) -> bool:
    """Return whether the methods name more than a password or another service's word."""
    return not FACTORS.isdisjoint(amr)


def start(
    user: User,
    client: Client,
    terms: Terms,
    amr: Sequence[str] = PASSWORD,
    claims_for: ClaimsFor | None = None,
    *,
    former: Claims | None = None,
    pk: UUID | None = None,
) -> Session:
    """Begin a session on those terms for a user whose credentials have been verified.

    `former` has the verified claims of the refresh token in the request, if there is one; its session, if alive, ends.
    Raises NoActiveAccount, or IntegrityError if there is, or was, a session with that key.
    """
    if not sessions.may_sign_in(user):
        raise NoActiveAccount
    return sessions.start(
        user,
        client,
        amr,
        remembered=terms.remembered,
        device_name=terms.device_name,
        claims=claims_for(user) if claims_for else "",
        jkt=terms.jkt,
        replaced=_alive(former) if former else None,
        authenticated_at=terms.authenticated_at,
        pk=pk,
    )


def is_recent(session: Session) -> bool:
    """Return whether the session's sign-in is recent enough for a sensitive action, and took all the user's factors."""
    return times.now() - session.authenticated_at <= conf.recent_sign_in and took_all_factors(session)


def factors_of(user: Any) -> Sequence[str] | None:
    """Name the second factors that the user can give; None for a user who has none."""
    factors = _second_factors()
    return factors.methods(user) if factors else None


def took_all_factors(session: Session) -> bool:
    """Return whether the user has no second factor, or gave it at the sign-in of the session or at its renewal."""
    factors, amr = _second_factors(), session.amr.split()
    # A project's own factor can have any name, listed beside the password's.
    took_two = names_factor(amr) or (len(amr) > 1 and set(PASSWORD) <= set(amr))
    return factors is None or took_two or factors.methods(session.user) is None


def check_password(user: Any, password: str, client: Client = UNKNOWN) -> bool:
    """Return whether this is the password of the signed-in user.

    A wrong one counts as a guess, and is logged as one. Raises TooManyTries.
    """
    buckets = spend("password", str(user.pk), client, lambda: user)
    if not _has_password(user, password):
        named = {get_user_model().USERNAME_FIELD: user.get_username()}
        user_login_failed.send(sender=__name__, credentials=named, request=None, client=client)
        return False
    limits.clear(*buckets)
    return True


def spend(limit: str, key: str, client: Client, find: Callable[[], Any]) -> Sequence[tuple[str, ...]]:
    """Take a try for the key from the client's network, and one for the key from everywhere; return both buckets.

    With the second limit alone, anybody could lock the owner out. So it doesn't apply in networks from which the
    account has signed in before, or in which a mailed link to reset the password was used. `find` returns the account's
    user. Raises TooManyTries.
    """
    here, everywhere = (limit, key, limits.network(client.ip_address)), (f"{limit}_anywhere", key)
    limits.spend(*here)
    try:
        limits.spend(*everywhere)
    except TooManyTries:
        if not _has_signed_in_from(client.ip_address, find()):
            raise
    return here, everywhere


def with_hint(sentence: str | Promise) -> str:
    """Return the sentence for a refused login, followed by TOKENS_LOGIN_HINT."""
    return f"{str(sentence).removesuffix('.')}. {conf.login_hint}" if conf.login_hint else str(sentence)


def _authenticate_by_password(
    username: str, password: str, client: Client, request: Any, username_field: str | None
) -> Any:
    """Return the user. Unknown names, wrong passwords and deactivated users take the same work."""
    username = username.strip()
    # Checked first, because normalising and hashing take longer the longer the text is.
    if len(username) > IDENTIFIER_LENGTH or len(password) > PASSWORD_LENGTH:
        raise InvalidCredentials
    buckets = spend("login", users.key_of(username), client, lambda: users.named(username))
    usual = get_user_model().USERNAME_FIELD
    named = {username_field or usual: username}
    try:
        if usual in named:
            named[usual] = users.as_name(username)
        user = auth.authenticate(request, **named, password=password)
    except ValidationError:
        user = None
    except UNREADABLE as error:
        _log_unreadable(error, password)
        user_login_failed.send(sender=__name__, credentials=named, request=request, client=client)
        user = None
    if user is None:
        raise InvalidCredentials
    limits.clear(*buckets)
    return user


def _has_signed_in_from(address: str | None, user: Any) -> bool:
    # Asked even if there is no user, so that the time taken reveals nothing.
    logins = SecurityEvent.objects.filter(user_id=user and user.pk, kind__in=kinds.proofs()).order_by()
    # Compared by network, as the limits do: a device's IPv6 address changes daily (RFC 8981).
    return limits.network(address) in map(limits.network, logins.values_list("ip_address", flat=True).distinct())


def _second_factors() -> SecondFactors | None:
    return cast(SecondFactors, resolve_name(conf.second_factor)) if conf.second_factor else None


def _has_password(user: Any, password: str) -> bool:
    """Return whether it is the user's password, as typed or normalised."""
    if len(password) > PASSWORD_LENGTH:
        return False
    try:
        return any(user.check_password(spelling) for spelling in spellings(password))
    except UNREADABLE as error:
        _log_unreadable(error, password)
        return False


def spellings(password: str) -> Sequence[str]:
    """Return the password as typed, and its normalised form if that differs (NIST SP 800-63B, section 3.1.1.2).

    A password that is too long is not normalised: that takes quadratic time.
    """
    if len(password) > PASSWORD_LENGTH:
        return (password,)
    return tuple(dict.fromkeys((password, unicodedata.normalize("NFKC", password))))


def _log_unreadable(error: Exception, password: str) -> None:
    """Log that a hash can't be checked, and take as long as checking one takes."""
    logger.error("A password hash can't be checked: %s", type(error).__name__)
    make_password(password)


def _alive(claims: Claims) -> Session | None:
    try:
        return sessions.find(claims)
    except TokenRefused:
        return None


class Opened(NamedTuple):
    """The content of a challenge."""

    user: Any
    terms: Terms
    session: UUID
    """The primary key of the session that it opens. Of parallel inserts with one key, one succeeds."""


def _issue(user: User, terms: Terms, pk: UUID | None = None) -> str:
    """Return a challenge: a signed text that says for whom the first step was right, and what it settled."""
    claims = {
        "sub": str(user.pk),
        "sid": str(pk or uuid7()),
        "at": time_ns() // 1000,
        "password": _digest(user.get_session_auth_hash()),
        "terms": asdict(terms),
    }
    return signing.dumps(claims, salt=SALT)


def issued_at(challenge: str) -> int:
    """Return when a challenge that was opened was issued, in microseconds since the epoch."""
    return int(signing.loads(challenge, salt=SALT)["at"])


def _open(challenge: str) -> Opened:
    user_model = get_user_model()
    try:
        # No longer than a session's row is kept for certain: the row shows that the challenge was used.
        claims = signing.loads(challenge, salt=SALT, max_age=min(CHALLENGE_LIFETIME, *_lifetimes()))
        user: Any = user_model._default_manager.get(pk=claims["sub"])
    except (signing.BadSignature, user_model.DoesNotExist) as error:
        raise ChallengeNotValid from error
    if claims["password"] not in map(_digest, fingerprints(user)):
        raise ChallengeNotValid
    return Opened(user, Terms(**claims["terms"]), UUID(claims["sid"]))


def _lifetimes() -> Sequence[timedelta]:
    return conf.refresh_token_lifetime, conf.session_lifetime, conf.short_session_lifetime


def _digest(fingerprint: str) -> str:
    """Return a value that changes with the password. Only clients that sent the right password see it."""
    return hashlib.sha256(fingerprint.encode()).hexdigest()
