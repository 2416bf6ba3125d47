"""How much of the proof runs: a short form in `make test`, all of it in `make proof`."""

import os

LONG = os.environ.get("PROOF") == "long"
