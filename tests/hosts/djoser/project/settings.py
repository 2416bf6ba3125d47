"""A project whose users djoser signs in with SimpleJWT by their email address, under a UUID."""

import json
import os

SECRET_KEY = "the-key-of-a-project-that-guards-nothing-0918273645546372819"
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "latchkey",
    "rest_framework_simplejwt.token_blacklist",
    "djoser",
    "people",
]
AUTH_USER_MODEL = "people.User"
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"]}
SIMPLE_JWT = {"AUTH_HEADER_TYPES": ["JWT"]}
DJOSER = {"TOKEN_MODEL": None}
