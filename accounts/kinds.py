"""This app's kinds of events, in addition to `tokens.kinds`."""

from django.utils.translation import gettext_lazy as _

from tokens.kinds import Notice, add

NEW_PASSWORD = Notice("password_changed", _("Your password was changed"))

REGISTERED = add("registered", _("registered"))
PASSWORD_CHANGED = add("password_changed", _("password changed"), notice=NEW_PASSWORD)
# The network in which the mailed link was opened is known to be the owner's.
PASSWORD_RESET = add("password_reset", _("password reset"), notice=NEW_PASSWORD, proof=True)
PASSWORD_RESET_SENT = add("password_reset_sent", _("password reset link sent by staff"))
USERNAME_CHANGED = add(
    "username_changed",
    _("username changed"),
    notice=Notice("username_changed", _("Your username was changed")),
)
EMAIL_CHANGED = add(
    "email_changed",
    _("email address changed"),
    notice=Notice("email_changed", _("Your email address was changed")),
)
EMAIL_VERIFIED = add("email_verified", _("email address verified"))
ACCOUNT_DELETED = add("account_deleted", _("account deleted"), row=False)  # a row would be deleted with the account
SECOND_FACTOR_ENABLED = add(
    "second_factor_enabled",
    _("two-factor authentication turned on"),
    notice=Notice("second_factor_enabled", _("Two-factor authentication was turned on")),
)
SECOND_FACTOR_REMOVED = add(
    "second_factor_removed",
    _("two-factor authentication turned off"),
    notice=Notice("second_factor_removed", _("Two-factor authentication was turned off")),
)
SECOND_FACTOR_FAILED = add("second_factor_failed", _("wrong two-factor code"))
SECOND_FACTOR_GUESSED = add(
    "second_factor_guessed",
    _("too many wrong two-factor codes"),
    notice=Notice("second_factor_guessed", _("Someone with your password is guessing your two-factor codes")),
)
RECOVERY_CODE_USED = add(
    "recovery_code_used",
    _("recovery code used"),
    notice=Notice("recovery_code_used", _("A recovery code was used")),
)
RECOVERY_CODES_RENEWED = add(
    "recovery_codes_renewed",
    _("recovery codes renewed"),
    notice=Notice("recovery_codes_renewed", _("You have new recovery codes")),
)
PASSKEY_ADDED = add(
    "passkey_added", _("passkey added"), notice=Notice("passkey_added", _("A passkey was added to your account"))
)
PASSKEY_REMOVED = add(
    "passkey_removed", _("passkey removed"), notice=Notice("passkey_removed", _("A passkey was removed"))
)
PASSKEY_FAILED = add("passkey_failed", _("passkey refused"))
PASSKEY_CLONED = add(
    "passkey_cloned", _("copied passkey used"), notice=Notice("passkey_cloned", _("A copy of your passkey was used"))
)
