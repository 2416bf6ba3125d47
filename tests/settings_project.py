"""The project's settings for tests: neither .env nor the shell's environment changes them."""

import os
import re
from pathlib import Path

for name in re.findall(r"(?m)^#?([A-Z_]+)=", Path(__file__).parent.with_name(".env.example").read_text()):
    os.environ.pop(name, None)
os.environ["ENV_FILE"] = os.devnull
os.environ["SECRET_KEY"] = "the-key-of-the-tests-which-guards-nothing-" + "0123456789" * 3
os.environ["DATABASE_URL"] = os.environ.get("TEST_DATABASE_URL", "sqlite://:memory:")

from config.settings import *  # noqa: E402
from config.settings import DATABASES, STORAGES  # noqa: E402

# A file that threads and processes share. By default, Django would use SQLite in memory.
if "TEST_SQLITE_FILE" in os.environ:
    DATABASES["default"]["TEST"] = {"NAME": os.environ["TEST_SQLITE_FILE"]}

# Tests collect no static files: these are served from the apps' folders.
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"

# Mails are sent when a test says so. Notices of logins are on only in tests about them.
MAIL_WORKER = "command"
NOTICES = ["email_changed"]
