from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.auth import models as auth
from django.contrib.auth.hashers import make_password, verify_password
from django.contrib.auth.models import AbstractBaseUser, PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models import CheckConstraint, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tokens.domain import events, sessions, signing_in
from tokens.domain.client import UNKNOWN, Client
from tokens.kinds import LOGIN, Kind
from tokens.models import USER_AGENT_LENGTH, SecurityEvent, Session, fingerprints, new_secret, uuid7

from . import kinds, names


class UserManager(auth.UserManager["User"]):
    """Django's manager, which finds users by the username or, if the text contains an `@`, by the email address."""

    def get_by_natural_key(self, username: str | None) -> "User":
        return self._with_factors().get(**_natural_key(username))

    def key_of(self, identifier: str) -> str:
        """Return the key that the look-up compares, for the limits on guessing."""
        (key,) = _natural_key(identifier).values()
        return key

    async def aget_by_natural_key(self, username: str | None) -> "User":
        return await self._with_factors().aget(**_natural_key(username))

    def _with_factors(self) -> QuerySet["User"]:
        """Fetch the data about factors that a login needs in the same statement."""
        return self.select_related("authenticator_app").annotate(passkeys_since=passkeys_since())

    def create_superuser(
        self,
        username: str,
        email: str | None = None,
        password: str | None = None,
        **extra_fields: Any,
    ) -> "User":
        # `createsuperuser` shows a ValidationError as a message, but an IntegrityError as a traceback.
        self.model(username=username, email=email or "").full_clean(exclude={"password"})
        return super().create_superuser(username, email, password, **extra_fields)


def _natural_key(identifier: str | None) -> dict[str, str]:
    key = names.key(identifier or "")
    return {"email_key" if "@" in key else "username_key": key}


def passkeys_since() -> Subquery:
    """Return when a user's oldest passkey was added, for `annotate`; `factors/passkeys.py` reads it."""
    return Subquery(Passkey.objects.filter(user=OuterRef("pk")).order_by("created_at").values("created_at")[:1])


def last_sign_in() -> Subquery:
    """Return when a user has last signed in, as far as the log goes back, for `annotate`.

    Django's `last_login`, which only the admin writes, would cost each login a statement.
    """
    logins = SecurityEvent.objects.filter(user=OuterRef("pk"), kind=LOGIN).order_by("-created_at", "-id")
    return Subquery(logins.values("created_at")[:1])


class PasswordChange(NamedTuple):
    """How a password was changed, as far as it is known."""

    kind: Kind = kinds.PASSWORD_CHANGED
    client: Client = UNKNOWN
    session: Session | None = None


PASSWORD_CHANGED = PasswordChange()


class User(AbstractBaseUser, PermissionsMixin):
    username = models.CharField(
        _("username"),
        max_length=150,
        unique=True,
        validators=[names.UsernameValidator()],
        help_text=_("150 characters or fewer. Letters, digits and . + - _ only."),
        error_messages={"unique": _("This username is taken.")},
    )
    email = models.EmailField(_("email address"), blank=True, error_messages={"unique": _("This address is taken.")})
    email_verified = models.BooleanField(_("email address verified"), default=False)
    awaiting_verification = models.BooleanField(
        _("awaiting verification"),
        default=False,
        db_default=False,  # for servers of the previous version, during an update
        editable=False,
        help_text=_("The user can't sign in until the address is verified."),
    )

    # Unique keys. SQLite's lower() knows only ASCII, so an index on an expression would not do. No default, so that a
    # write around save() fails instead of storing a row without a key.
    username_key = models.CharField(max_length=450, unique=True, editable=False, default=None)
    email_key = models.CharField(max_length=762, unique=True, editable=False, null=True)  # noqa: DJ001 - no two are empty

    is_staff = models.BooleanField(_("staff status"), default=False, help_text=_("May sign in to the admin."))
    is_active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_("Clear this instead of deleting the user. Clearing it ends the user's sessions."),
    )
    date_joined = models.DateTimeField(_("date joined"), default=timezone.now)
    passkey_handle = models.BinaryField(max_length=32, default=new_secret, editable=False)
    """The user's handle for passkeys. It is random, so a lost security key reveals nothing (WebAuthn, 14.6.1)."""

    objects: ClassVar[UserManager] = UserManager()

    EMAIL_FIELD = "email"
    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [
            CheckConstraint(
                condition=~Q(username__contains="@"),
                name="accounts_username_is_no_address",
            )
        ]

    def save(
        self,
        *args: Any,
        update_fields: Iterable[str] | None = None,
        password_change: PasswordChange = PASSWORD_CHANGED,
        **kwargs: Any,
    ) -> None:
        """Save as Django does, and announce a changed password: the API, the admin, a command, a line in the shell."""
        self._normalize()
        if update_fields is not None:
            changed = set(update_fields)
            update_fields = changed | {f"{name}_key" for name in changed & {"username", "email"}}
        using = kwargs.get("using") or router.db_for_write(User, instance=self)
        with transaction.atomic(using, savepoint=False):
            former = self._former(using) if "password" in (update_fields or ["password"]) else None
            super().save(*args, update_fields=update_fields, **kwargs)
            if former and former.password != self.password:
                kind, client, session = password_change
                events.announce(kind, former, client, session)

    def _former(self, using: str) -> "User | None":
        """Lock the user's row and return it. Otherwise a save that undoes a parallel change would go unnoticed."""
        return User.objects.using(using).select_for_update(no_key=True).filter(pk=self.pk).first()

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        # Before the validators see them, since the stored form of a character may be longer.
        self._normalize()
        super().clean_fields(exclude)
        if self.email and "email" not in (exclude or ()):
            try:
                names.mailbox(self.email)
            except ValidationError as error:
                raise ValidationError({"email": error}) from error

    def validate_unique(self, exclude: Collection[str] | None = None) -> None:
        """Compare names by their keys, and put the error on the name's field."""
        names_of = {"username": self.username_key, "email": self.email_key}
        asked = {name: key for name, key in names_of.items() if key and name not in set(exclude or ())}
        others = User.objects.exclude(pk=self.pk)
        taken = {
            name: self.unique_error_message(User, (name,))
            for name, key in asked.items()
            if others.filter(**{f"{name}_key": key}).exists()
        }
        if taken:
            raise ValidationError(taken)

    @classmethod
    def normalize_username(cls, username: Any) -> Any:
        # Django's own normalises text of any length, which takes quadratic time.
        return names.normalize(username) if isinstance(username, str) else username

    def _normalize(self) -> None:
        self.username = names.normalize(self.username or "")  # None if the form refused the name
        self.email = names.normalize(self.email or "")
        self.username_key = names.key(self.username)
        self.email_key = names.key(self.email) or None

    def set_password(self, raw_password: str | None) -> None:
        """Store it normalised, so the password matches as any keyboard spells it."""
        super().set_password(raw_password and signing_in.spellings(raw_password)[-1])

    def check_password(self, raw_password: str | None) -> bool:
        """Check the password. An outdated hash is replaced without ending a session.

        Django would save() the new hash, and so undo a parallel change of the password.
        """
        is_correct, must_update = verify_password(raw_password, self.password)
        if is_correct and must_update and not self._upgrade_hash(raw_password):
            self.password = User.objects.filter(pk=self.pk).values_list("password", flat=True).first() or ""
            return self.check_password(raw_password)
        return is_correct

    async def acheck_password(self, raw_password: str | None) -> bool:
        return await sync_to_async(self.check_password)(raw_password)

    def _upgrade_hash(self, raw_password: str | None) -> bool:
        """Replace the hash, if the password is still the one that was checked; return whether it was."""
        former, checked = list(fingerprints(self)), self.password
        self.password = make_password(raw_password)
        with transaction.atomic():
            row = User.objects.filter(pk=self.pk, password=checked)
            if not row.update(password=self.password):
                return False
            sessions.renew_auth_hash(self, former)
        return True


class AuthenticatorApp(models.Model):
    """A secret that the owner's authenticator app shares. Codes are asked for only once the app has proved it.

    It has a table of its own: the user's row is saved as a whole in many places, and an outdated copy would turn the
    factor off.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.OneToOneField(
        User, on_delete=models.CASCADE, related_name="authenticator_app", verbose_name=_("user")
    )
    secret = models.CharField(max_length=200, editable=False)
    """Encrypted, against a copy of the database without the key."""

    enabled_at = models.DateTimeField(_("enabled"), null=True)
    last_step = models.PositiveBigIntegerField(default=0)
    """The time step of the last used code. Codes of that step or an earlier one are no longer valid."""

    class Meta:
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")

    def __str__(self) -> str:
        return str(self.pk)


class RecoveryCode(models.Model):
    """A code for when the device is lost. Its use deletes it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes", verbose_name=_("user"))
    digest = models.CharField(max_length=64, editable=False)
    """SHA-256, which is enough for a code of 120 random bits (OWASP ASVS 6.5.2)."""

    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="accounts_recovery_code_is_unique")]

    def __str__(self) -> str:
        return str(self.pk)


class Passkey(models.Model):
    """The public half of a WebAuthn credential. The private half never leaves its owner's devices."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="passkeys", verbose_name=_("user"))
    credential_id = models.BinaryField(max_length=1023, unique=True, editable=False)
    public_key = models.BinaryField(editable=False)
    name = models.CharField(_("name"), max_length=64)
    sign_count = models.PositiveBigIntegerField(default=0, editable=False)
    last_challenge = models.PositiveBigIntegerField(default=0, editable=False)
    """When its last answered challenge was issued, in microseconds. Older challenges are refused."""

    synced = models.BooleanField(_("can be on several devices"), editable=False)
    backed_up = models.BooleanField(_("is backed up"), editable=False)
    transports = models.JSONField(default=list, editable=False)
    created_at = models.DateTimeField(_("added"), default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        verbose_name = _("passkey")
        verbose_name_plural = _("passkeys")

    def __str__(self) -> str:
        return self.name


class MailKind(models.TextChoices):
    """The mails that users ask for; the label is the subject. All others are notices of the table of kinds."""

    VERIFY_EMAIL = "verify_email", _("Confirm your email address")
    ALREADY_REGISTERED = "already_registered", _("You already have an account")
    RESET_PASSWORD = "reset_password", _("Reset your password")
    SET_PASSWORD = "set_password", _("Choose a password")


class Mail(models.Model):
    """A mail that waits to be sent. The row names the mail but holds no text.

    A link's token is made at the time of sending, so a copy of the database opens no account.
    """

    kind = models.CharField(max_length=40)
    address = models.EmailField()
    session = models.UUIDField(null=True)
    """The session that the mail is about, if any."""

    # The client that caused it. The database has defaults, for servers of the previous version during an update.
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=USER_AGENT_LENGTH, default="", db_default="")
    language = models.CharField(max_length=20)
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("email")
        verbose_name_plural = _("emails")

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
