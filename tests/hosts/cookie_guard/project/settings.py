"""A project that keeps SimpleJWT's tokens in cookies, by views and a guard of its own."""

import json
import os

SECRET_KEY = "the-key-of-a-project-that-guards-nothing-0918273645546372819"
ALLOWED_HOSTS = ["testserver"]
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
]
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["project.guard.CookieAuthentication"]}
SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": True, "AUTH_COOKIE": "access"}
