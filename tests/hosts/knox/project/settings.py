"""A project whose users knox signs in."""

import json
import os

SECRET_KEY = "what guards a project of somebody else's in these tests alone, 0123456789"
DEBUG = True
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "knox", "latchkey"]
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["latchkey.authentication.JWTAuthentication"]}
