"""The project's own settings, in an environment of their own: neither .env nor the shell has a say."""

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

# A file that threads and processes share, where Django would take SQLite in memory.
if "TEST_SQLITE_FILE" in os.environ:
    DATABASES["default"]["TEST"] = {"NAME": os.environ["TEST_SQLITE_FILE"]}

# Nothing is collected for tests: static files are served from where the apps keep them.
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"

# Mails are sent when a test says so, and notices that a login causes only where they are the subject.
MAIL_WORKER = "command"
NOTICES = ["email_changed"]
