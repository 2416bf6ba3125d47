"""A project with ATOMIC_REQUESTS, USE_TZ off, two databases, and versions in its URLs."""

import json
import os
from datetime import timedelta

SECRET_KEY = "a-key-of-a-project-that-nobody-guesses-0123456789-abcdefghijklmnop"
SESSIONS_IN = os.environ.get("SESSIONS_IN", "default")
DATABASES = {
    "default": json.loads(os.environ["DATABASE"]) | {"ATOMIC_REQUESTS": "ATOMIC" in os.environ},
    "people": json.loads(os.environ["OTHER_DATABASE"]) | {"ATOMIC_REQUESTS": "ATOMIC" in os.environ},
}
DATABASE_ROUTERS = ["project.routers.Router"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "latchkey"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "project.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = "NAIVE" not in os.environ
TIME_ZONE = "America/New_York"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["testserver"]
TOKENS_COOKIE_PATH = os.environ.get("COOKIE_PATH", "/shop")
TOKENS_TRUSTED_PROXIES = 1
TOKENS_GRACE_PERIOD = timedelta(0)
TOKENS_LIMITS = {"login": (3, 600)}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["latchkey.authentication.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
