import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any, ClassVar, Self, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Func, JSONField, OuterRef, QuerySet, Subquery
from django.utils.crypto import constant_time_compare
from django.utils.timezone import get_default_timezone, is_naive, make_aware
from django.utils.translation import gettext_lazy as _
from rest_framework_simplejwt import models as simplejwt

from . import times
from .conf import conf

USER_AGENT_LENGTH = 256
NAME_LENGTH = 254
DEVICE_NAME_LENGTH = 64

User = AbstractBaseUser


def uuid7(at: datetime | None = None) -> UUID:
    """Return a new identifier that sorts by its time of creation (RFC 9562, section 5.7)."""
    random = secrets.randbits(74)
    return _uuid7(at or times.now(), random >> 62, random & (1 << 62) - 1)


def uuid7_floor(at: datetime) -> UUID:
    """Return the lowest identifier of that millisecond: everything made earlier sorts below it."""
    return _uuid7(at, 0, 0)


def _uuid7(at: datetime, rand_a: int, rand_b: int) -> UUID:
    milliseconds = int(at.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def uuid7_of(at: datetime, name: str) -> UUID:
    """Return the identifier that is always the same for that name and time."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:10], "big")
    return _uuid7(at, digest >> 62 & 0xFFF, digest & (1 << 62) - 1)


def new_secret() -> bytes:
    return secrets.token_bytes(32)


def fingerprints(user: User) -> Iterator[str]:
    """Yield the fingerprint of the user's password under the current SECRET_KEY, then under each former one."""
    yield user.get_session_auth_hash()
    yield from user.get_session_auth_fallback_hash()


class UTCDateTimeField(models.DateTimeField):  # type: ignore[type-arg]
    """Django's field, except that it returns aware values only, and takes naive ones as local time."""

    def db_type(self, connection: Any) -> str | None:
        # A column "with time zone" has the connection's zone, which depends on USE_TZ.
        return "timestamp" if connection.vendor == "postgresql" else super().db_type(connection)

    def from_db_value(self, value: datetime | None, expression: Any, connection: Any) -> datetime | None:
        # The backend only guesses the zone.
        return value and value.replace(tzinfo=UTC)

    def get_prep_value(self, value: Any) -> Any:
        moment = self.to_python(value)
        return make_aware(moment, get_default_timezone()) if moment and is_naive(moment) else moment

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        moment = value if prepared else self.get_prep_value(value)
        return connection.ops.adapt_datetimefield_value(moment and moment.astimezone(UTC).replace(tzinfo=None))


class JSONArray(Func):
    """Collect a column of all rows into one JSON array, in either database.

    It is no `Aggregate`, for which Django would group the rows.
    """

    function = "JSON_GROUP_ARRAY"
    output_field = JSONField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="JSONB_AGG", **context)


@cache
def groups_field() -> Any:
    """Return the field for a user's groups; None if there is none, or its groups have no names."""
    try:
        field: Any = get_user_model()._meta.get_field("groups")
        field.related_model._meta.get_field("name")
    except (FieldDoesNotExist, AttributeError):
        return None
    return field if isinstance(field, models.ManyToManyField) else None


@cache
def group_names(user: str) -> Subquery | None:
    """Return a subquery for the names of a user's groups, where the user model has groups.

    `user` is the path from the outer row to the user's primary key.
    """
    field = groups_field()
    if field is None:
        return None
    owner, group = field.m2m_field_name(), field.m2m_reverse_field_name()
    rows = field.remote_field.through._default_manager.filter(**{owner: OuterRef(user)}).order_by()
    # Each name by a subquery of its own: PostgreSQL plans that in less time than a join.
    name = Subquery(field.related_model._base_manager.filter(pk=OuterRef(group)).values("name"))
    return Subquery(rows.values(names=JSONArray(name)))


class Reason(models.TextChoices):
    """Why a session was revoked."""

    LOGOUT = "logout", _("signed out")
    LOGOUT_ALL = "logout_all", _("signed out everywhere")
    REVOKED = "revoked", _("revoked by the owner")
    STAFF = "staff", _("revoked by staff")
    COMMAND = "command", _("revoked by an administrator")
    REUSED = "reused", _("a refresh token was used twice")
    PASSWORD = "password", _("the password was changed")
    DEACTIVATED = "deactivated", _("the user was deactivated")
    CAP = "cap", _("too many sessions")
    REPLACED = "replaced", _("another sign-in in the same browser")


class SessionQuerySet(QuerySet["Session"]):
    def live(self, leeway: timedelta = timedelta()) -> Self:
        """Keep those that are not revoked, and not expired for longer than that. `of` compares the password."""
        return self.filter(revoked_at=None, expires_at__gt=times.now() - leeway)

    def expired(self) -> Self:
        return self.filter(expires_at__lte=times.now())

    def of(self, user: User) -> Self:
        """Keep the user's sessions that began with the current password."""
        return self.filter(user_id=user.pk, auth_hash__in=list(fingerprints(user)))

    def with_groups(self) -> Self:
        """Fetch the names of the user's groups in the same statement."""
        groups = group_names("user_id")
        return self if groups is None else self.annotate(groups=groups)


class Session(models.Model):
    """One login on one device: a chain of refresh tokens, of which only number `generation` is current.

    The refresh token is derived from this row and a key outside of it. So no token is stored, and a copy of the table
    reveals none.
    """

    id = models.UUIDField(_("session"), primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("user")
    )
    secret = models.BinaryField(max_length=32, default=new_secret, editable=False)
    """Keys the `jti` of the refresh tokens, against a stolen signing key without the database."""

    generation = models.PositiveIntegerField(_("generation"), default=0)
    predecessor = models.PositiveIntegerField(_("predecessor"), default=0)
    """The generation that was exchanged for the current one."""

    confirmed = models.BooleanField(_("confirmed"), default=True)
    """Whether a token that the last rotation issued has been used."""

    exposed = models.BooleanField(_("lost response seen"), default=False, db_default=False)
    """Whether someone has looked up a token that the last late retry gave up. Then a stranger has the lost answer."""

    created_at = UTCDateTimeField(_("signed in"))
    reauthenticated_at = UTCDateTimeField(_("identity confirmed"), null=True, blank=True)
    """When the sign-in was renewed, if it was."""

    remembered = models.BooleanField(_("remembered"), default=True, db_default=True)
    rotated_at = UTCDateTimeField(_("last used"))
    expires_at = UTCDateTimeField(_("expires"))
    auth_hash = models.CharField(max_length=128, editable=False)
    """The fingerprint of the user's password at login, keyed by SECRET_KEY: once the password changes, it no longer
    matches, and the session has ended."""

    amr = models.CharField(_("signed in with"), max_length=40, default="pwd")
    """How the user signed in at `authenticated_at`: methods of RFC 8176, separated by spaces."""

    claims = models.TextField(blank=True, default="", db_default="", editable=False)
    """The project's claims for the tokens, as JSON. They are encoded once, at the login, so all tokens have the
    same."""

    jkt = models.CharField(_("key thumbprint"), max_length=43, blank=True, default="", db_default="")
    """The key to which the tokens are bound (RFC 9449, section 6), as its thumbprint (RFC 7638); empty for none. It
    never changes."""

    revoked_at = UTCDateTimeField(_("revoked"), null=True, blank=True)
    revoked_reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices, blank=True)
    revoked_by = models.CharField(_("revoked by"), max_length=NAME_LENGTH, blank=True, default="", db_default="")
    """The name, at that time, of the person who revoked it. No foreign key: it outlives that person's account, and
    deleting a user need not search all sessions."""

    revoked_from = models.GenericIPAddressField(_("revoked from"), null=True, blank=True)
    ip_address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=USER_AGENT_LENGTH, blank=True)
    device_name = models.CharField(
        _("device name"), max_length=DEVICE_NAME_LENGTH, blank=True, default="", db_default=""
    )
    """The client's name for itself, or a later one by the owner. Anybody can choose this text, so no mail quotes it."""

    objects: ClassVar[Any] = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        # No index on columns that a rotation changes, so that PostgreSQL can update the row in place.

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def custom_claims(self) -> dict[str, Any]:
        """The claims that the project has added at the login."""
        claims: dict[str, Any] = json.loads(self.claims) if self.claims else {}
        return claims

    @property
    def authenticated_at(self) -> datetime:
        """When the user last gave the password."""
        return cast(datetime, self.reauthenticated_at or self.created_at)

    def jti(self, generation: int) -> str:
        """Return the `jti` of the refresh token of that generation."""
        # As Django and PyJWT do: `hmac.digest` runs other code of OpenSSL's, which is cold each time.
        digest = hmac.new(bytes(self.secret), generation.to_bytes(8, "big"), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def ends_at(self) -> datetime:
        """Return the absolute end, which no rotation can move."""
        lifetime, began = conf.session_lifetime, cast(datetime, self.created_at)
        return began + (lifetime if self.remembered else min(lifetime, conf.short_session_lifetime))

    def expiry(self, issued_at: datetime) -> datetime:
        """Return when a refresh token that is issued at that time expires, in whole seconds, like its `exp`."""
        return min(issued_at + conf.refresh_token_lifetime, self.ends_at()).replace(microsecond=0)

    @cached_property
    def groups(self) -> list[str] | None:
        """The names of the user's groups, if any; `with_groups` fetches them with the session."""
        user: Any = self.user
        return list(user.groups.values_list("name", flat=True)) if groups_field() else None

    @property
    def password_changed(self) -> bool:
        """Whether the session ended because the user's password has changed since the login."""
        return not any(constant_time_compare(self.auth_hash, known) for known in fingerprints(self.user))


class TokenUser(simplejwt.TokenUser):
    """The user as a token's claims describe it, without a row in the database.

    A superuser has every permission, as in Django. The claims name no permissions, so other users have none.
    """

    @property
    def id(self) -> str:
        """The user's id. Claims that a project made itself may have it under SimpleJWT's default name."""
        return str(next(self.token[name] for name in ("sub", conf.user_id_claim, "user_id") if name in self.token))

    @property
    def groups(self) -> list[str]:  # type: ignore[override]
        """The names of the groups."""
        return list(self.token.get("groups", ()))

    def has_perm(self, perm: str, obj: object | None = None) -> bool:
        return bool(self.is_superuser)

    def has_perms(self, perm_list: list[str], obj: object | None = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, module: str) -> bool:
        return bool(self.is_superuser)


class Bucket(models.Model):
    """The level of a limit on guessing, as a leaky bucket. A row that has drained counts as none."""

    slot = models.PositiveIntegerField(primary_key=True)
    empty_at = models.FloatField()
    """Seconds since the epoch."""

    def __str__(self) -> str:
        return str(self.slot)


class SecurityEvent(models.Model):
    """A line of the log for the account's owner."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"), db_index=False
    )
    """`latchkey_event_by_user` is its index."""

    kind = models.CharField(_("event"), max_length=40)
    created_at = UTCDateTimeField(_("time"), default=times.now)
    ip_address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=USER_AGENT_LENGTH, blank=True)
    session = models.UUIDField(_("session"), null=True, blank=True)
    """No foreign key: the log outlives the session."""

    reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices, blank=True, default="", db_default="")
    """Why the session ended; empty for other events."""

    count = models.PositiveIntegerField(_("count"), default=1)
    """The failed logins of one account within one hour share a row."""

    class Meta:
        verbose_name = _("security event")
        verbose_name_plural = _("security events")
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["user", "-created_at", "-id"], name="latchkey_event_by_user")]

    def __str__(self) -> str:
        return self.kind


class FormerToken(models.Model):
    """A refresh token of SimpleJWT's that has become a session, until it would have expired.

    It outlives the session's row, so no token begins a session twice.
    """

    session = models.UUIDField(primary_key=True)
    expires_at = UTCDateTimeField()

    def __str__(self) -> str:
        return str(self.session)


class Cutoff(models.Model):
    """When all of a user's sessions were last ended, including those of SimpleJWT's tokens, which have no row."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", null=True)
    """None means all users."""

    at = UTCDateTimeField()
    auth_hash = models.CharField(max_length=128)
    """The fingerprint of the user's password at that time, or when a token of the user was first seen."""

    changed_at = UTCDateTimeField(null=True)
    """When another password was last saved. All sessions ended then, unless the fingerprint still matches."""

    def __str__(self) -> str:
        return str(self.user_id)


class TransactionId(Func):
    """The number of the writing transaction, on PostgreSQL; 0 elsewhere."""

    output_field = models.BigIntegerField()

    def as_sql(self, *args: Any, **kwargs: Any) -> Any:
        return "0", []

    def as_postgresql(self, *args: Any, **kwargs: Any) -> Any:
        return "pg_current_xact_id()::text::bigint", []


class Ended(models.Model):
    """A session that has ended, kept until all its access tokens have expired."""

    session = models.UUIDField()
    """No foreign key: it outlives the session, whose user may have been deleted."""

    at = UTCDateTimeField()
    reason = models.CharField(max_length=20)
    xid = models.BigIntegerField(db_index=True)
    """The transaction that wrote it, on PostgreSQL. It may be committed after transactions with greater numbers."""

    def __str__(self) -> str:
        return str(self.session)
