"""A shell in which the commands of the documentation are run."""

import subprocess
import threading
from pathlib import Path


class Shell:
    """A shell that keeps running, so a block can use the variables of an earlier one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.patience = threading.Timer(120, self.process.kill)
        self.patience.start()

    def run(self, block: str) -> str:
        """Return what the block prints."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{block}\nprintf '\\n%s\\n' done-with-this-block\n")
        self.process.stdin.flush()
        printed = "".join(iter(self.process.stdout.readline, "done-with-this-block\n"))
        assert self.process.poll() is None, printed
        return printed.strip()

    def close(self) -> None:
        self.patience.cancel()
        self.process.communicate()
