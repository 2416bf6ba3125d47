"""The project's settings, from the environment of the process, for servers that a test starts."""

from config.settings import *
from config.settings import STORAGES

# Tests collect no static files: these are served from the apps' folders.
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
