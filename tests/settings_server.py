"""The project's own settings, from the environment of the process, for servers that a test starts."""

from config.settings import *
from config.settings import STORAGES

# Nothing is collected for tests: static files are served from where the apps keep them.
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
