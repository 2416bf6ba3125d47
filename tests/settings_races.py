"""The server's settings, save that passwords cost nothing: else what takes one would always come last in a race."""

from tests.settings_server import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
