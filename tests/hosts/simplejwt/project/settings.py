"""A project that signs its users in with SimpleJWT, and has the blacklist."""

import json
import os
from datetime import timedelta

SECRET_KEY = "the-key-of-a-project-that-guards-nothing-0918273645546372819"
DEBUG = False
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
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"]}
SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(days=7), "BLACKLIST_AFTER_ROTATION": True}
