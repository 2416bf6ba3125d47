"""The server's settings, with limits that a test sets."""

import json
import os

from tests.settings_cheap import *

TOKENS_LIMITS = json.loads(os.environ["LIMITS"])
