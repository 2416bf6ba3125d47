"""The server's settings, with cheap password hashing. Otherwise, requests with a password would lose every race."""

from tests.settings_server import *

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
