from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2idPasswordHasher(Argon2PasswordHasher):
    """Argon2id with the parameters of OWASP's Password Storage Cheat Sheet: tens of milliseconds and 19 MiB a login.

    Django's own take 100 MiB, which a handful of parallel logins multiply.
    """

    memory_cost = 19456  # KiB
    time_cost = 2
    parallelism = 1

    def safe_summary(self, encoded: str) -> dict[Any, Any]:
        """Return what the admin shows: the parameters. Django would also show the start of the salt and the hash."""
        parameters = super().safe_summary(encoded)
        return {name: parameters[name] for name in parameters if name not in ("salt", "hash")}
