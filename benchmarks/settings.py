"""One bare project, with the package for the sign-in that BENCHMARK names."""

import os
from datetime import timedelta

from django.conf import global_settings

from config import settings
from tests.proof.peers.packages import PEERS, Latchkey

PEER = PEERS[os.environ["BENCHMARK"]]()

SECRET_KEY = settings.SECRET_KEY
DATABASES = settings.DATABASES
DATABASE_TIMEOUT = settings.DATABASE_TIMEOUT
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *PEER.apps,
]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
if PEER.middleware:
    INSTALLED_APPS += ["django.contrib.sessions", "django.contrib.messages"]
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        *PEER.middleware,
    ]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [PEER.guard],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
# A hasher that costs nothing, or the default: Django's, and the project's.
PASSWORD_HASHERS = {
    "fast": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "real": settings.PASSWORD_HASHERS if isinstance(PEER, Latchkey) else global_settings.PASSWORD_HASHERS,
}[os.environ["BENCHMARK_HASH"]]

globals().update(PEER.settings())
TOKENS_THROTTLING = os.environ["BENCHMARK_LIMITS"] == "on"
TOKENS_THROTTLE_RATES = {"login": "100000/min", "refresh": "100000/min"}  # the address is always the same
TOKENS_LIMITS = {"login": (1000, 0.001), "login_anywhere": (1000, 0.001)}  # and the names are few
TOKENS_GRACE_PERIOD = timedelta(seconds=60)  # long enough for retries on a slow machine
