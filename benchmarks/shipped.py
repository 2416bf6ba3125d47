"""The project as shipped, with cheap password hashing, and rates that one address does not reach."""

from datetime import timedelta

from tests.settings_server import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TOKENS_THROTTLE_RATES = {"login": "100000/min", "refresh": "100000/min"}
TOKENS_GRACE_PERIOD = timedelta(seconds=60)  # long enough for retries on a slow machine
