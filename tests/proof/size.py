"""How much of the proof to run: a short form with every `make test`, the whole with `make proof`."""

import os

LONG = os.environ.get("PROOF") == "long"
