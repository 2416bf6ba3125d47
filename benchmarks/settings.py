"""One bare project, with the sign-in that BENCHMARK names: Latchkey's `tokens`, or SimpleJWT."""

import os
from datetime import timedelta
from typing import Any

from django.conf import global_settings

from config import settings

LATCHKEY = os.environ["BENCHMARK"] == "Latchkey"

SECRET_KEY = settings.SECRET_KEY
DATABASES = settings.DATABASES
DATABASE_TIMEOUT = settings.DATABASE_TIMEOUT
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "tokens" if LATCHKEY else "rest_framework_simplejwt.token_blacklist",
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
GUARDS = "tokens.authentication" if LATCHKEY else "rest_framework_simplejwt.authentication"
STATELESS = f"{GUARDS}.{'StatelessJWTAuthentication' if LATCHKEY else 'JWTStatelessUserAuthentication'}"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [f"{GUARDS}.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
# One that costs nothing, or what each comes with: Django's default, and that of the project.
PASSWORD_HASHERS = {
    "fast": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "real": settings.PASSWORD_HASHERS if LATCHKEY else global_settings.PASSWORD_HASHERS,
}[os.environ["BENCHMARK_HASH"]]

SIMPLE_JWT: dict[str, Any] = {} if LATCHKEY else {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}
TOKENS_THROTTLING = os.environ["BENCHMARK_LIMITS"] == "on"
TOKENS_THROTTLE_RATES = {"login": "100000/min", "refresh": "100000/min"}  # the address is always the same
TOKENS_LIMITS = {"login": (1000, 0.001), "login_anywhere": (1000, 0.001)}  # and the names are few
TOKENS_GRACE_PERIOD = timedelta(seconds=60)  # so that a retry is one, however slow the machine
